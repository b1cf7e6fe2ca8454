"""What rules cannot judge: facts of the small world, translation, greetings, questions about oneself, short writing.

`gold` is one good answer; a reward model or an oracle judges others. R1-Zero never trains on these, the later stages do.
"""

import random

from r1lib.tasks.problem import NAMES, Kind, Language, Problem, Voice, Work

_OPPOSITES = [("hot", "cold", "热", "冷"), ("big", "small", "大", "小"), ("fast", "slow", "快", "慢"), ("old", "new", "旧", "新"),
              ("dark", "light", "暗", "亮"), ("high", "low", "高", "低"), ("long", "short", "长", "短"), ("full", "empty", "满", "空"),
              ("wet", "dry", "湿", "干"), ("loud", "quiet", "吵", "静")]
_WORDS = [("cat", "猫"), ("dog", "狗"), ("bird", "鸟"), ("fish", "鱼"), ("tree", "树"), ("river", "河"), ("moon", "月亮"),
          ("sun", "太阳"), ("rain", "雨"), ("snow", "雪"), ("house", "房子"), ("road", "路"), ("book", "书"), ("tea", "茶"),
          ("rice", "米饭"), ("water", "水"), ("friend", "朋友"), ("teacher", "老师"), ("flower", "花"), ("horse", "马")]
_SENTENCES = [("The {a} is near the {b}.", "{a}在{b}旁边。"), ("I like the {a} and the {b}.", "我喜欢{a}和{b}。"),
              ("A {a} has no {b}.", "{a}没有{b}。")]
_COLOURS = [("sky", "blue", "天空", "蓝色"), ("snow", "white", "雪", "白色"), ("grass", "green", "草", "绿色"),
            ("coal", "black", "煤", "黑色"), ("blood", "red", "血", "红色"), ("lemon", "yellow", "柠檬", "黄色"),
            ("leaf", "green", "叶子", "绿色"), ("sea", "blue", "海", "蓝色"), ("milk", "white", "牛奶", "白色"),
            ("night", "black", "夜", "黑色"), ("rose", "red", "玫瑰", "红色"), ("sun", "yellow", "太阳", "黄色"),
            ("moon", "white", "月亮", "白色"), ("frog", "green", "青蛙", "绿色"), ("crow", "black", "乌鸦", "黑色"),
            ("fire", "red", "火", "红色"), ("banana", "yellow", "香蕉", "黄色")]
_SELF = [("Who are you?", "你是谁？"), ("What are you?", "你是什么？"), ("Are you a person?", "你是人吗？"),
         ("What is your name?", "你叫什么名字？"), ("Who made you?", "谁做了你？")]
_LEADS = [("", ""), ("Tell me: ", "告诉我："), ("Please say: ", "请说："), ("One question: ", "问一下："), ("And ", "那么")]
_I_AM = ("I am a small language model. I answer questions.", "我是一个小语言模型，我回答问题。")
_GREETINGS = [("Hello!", "你好！"), ("Good morning!", "早上好！"), ("Thank you!", "谢谢！"), ("How are you?", "你好吗？"),
              ("Good evening!", "晚上好！")]
_WELCOME = ("Hello! How can I help you?", "你好！我能帮你什么？")
_POEM = [("The {a} sleeps near the {b}, and the night is quiet.", "{a}睡在{b}旁边，夜很静。"),
         ("A {a} came to the {b} and was happy.", "一只{a}来到{b}，很高兴。"),
         ("I saw a {a} by the {b}, and I smiled.", "我在{b}边看到{a}，我笑了。")]


def _text_problem(kind: str, level: int, language: Language, pair: tuple[str, str], answers: tuple[str, str], key: str,
                  **facts: object) -> Problem:
    side = 0 if language == "en" else 1
    return Problem("general", kind, level, language, pair[side], "text", answers[side], key, facts=facts)


def make_fact(rng: random.Random, level: int, language: Language) -> Problem:
    if level < 3:
        thing, colour, thing_zh, colour_zh = rng.choice(_COLOURS)
        return _text_problem("fact", level, language, (f"What colour is the {thing}?", f"{thing_zh}是什么颜色？"),
                             (f"It is {colour}.", f"{thing_zh}是{colour_zh}。"), f"colour {thing}")
    word, opposite, word_zh, opposite_zh = rng.choice(_OPPOSITES)
    if rng.random() < 0.5:
        word, opposite, word_zh, opposite_zh = opposite, word, opposite_zh, word_zh
    return _text_problem("fact", level, language, (f"What is the opposite of {word}?", f"{word_zh}的反义词是什么？"),
                         (f"The opposite of {word} is {opposite}.", f"{word_zh}的反义词是{opposite_zh}。"), f"opposite {word}")


def make_translation(rng: random.Random, level: int, language: Language) -> Problem:
    """Words (levels 1 and 2) and sentences; out of the language that the question is asked in."""
    (a, a_zh), (b, b_zh) = rng.sample(_WORDS, 2)
    english, chinese = a, a_zh
    if level > 2:
        sentence, sentence_zh = rng.choice(_SENTENCES)
        english, chinese = sentence.format(a=a, b=b), sentence_zh.format(a=a_zh, b=b_zh)
    return _text_problem("translation", level, language, (f"Translate into Chinese: {english}", f"翻译成英文：{chinese}"),
                         (chinese, english), f"translate {english}")


def make_self(rng: random.Random, level: int, language: Language) -> Problem:
    (question, question_zh), (lead, lead_zh) = rng.choice(_SELF), rng.choice(_LEADS)
    return _text_problem("self", level, language, (lead + question, lead_zh + question_zh), _I_AM, f"self {lead}{question}")


def make_greeting(rng: random.Random, level: int, language: Language) -> Problem:
    (greeting, greeting_zh), who = rng.choice(_GREETINGS), rng.randrange(len(NAMES[language]))
    return _text_problem("greeting", level, language, (f"{greeting} I am {NAMES['en'][who]}.", f"{greeting_zh}我是{NAMES['zh'][who]}。"),
                         _WELCOME, f"greeting {greeting} {who}")


def make_writing(rng: random.Random, level: int, language: Language) -> Problem:
    """A sentence that must mention two things."""
    (a, a_zh), (b, b_zh) = rng.sample(_WORDS, 2)
    line, line_zh = rng.choice(_POEM)
    return _text_problem("writing", level, language, (f"Write a sentence about a {a} and a {b}.", f"写一句话，讲{a_zh}和{b_zh}。"),
                         (line.format(a=a, b=b), line_zh.format(a=a_zh, b=b_zh)), f"write {a} {b}", must=[[a, b], [a_zh, b_zh]])


_DULL = ("I do not know.", "我不知道。")


def _work(problem: Problem, manner: str, voice: Voice) -> Work:
    """glance is a dull answer half of the time; steps thinks of what is asked and answers well."""
    if manner == "glance":
        return Work(voice.say("sure"), problem.gold if voice.rng.random() < 0.5 else _DULL[0 if problem.language == "en" else 1])
    return Work(voice.say("open").strip() or problem.question, problem.gold)


KINDS = tuple(Kind(name, "general", ("glance", "steps"), make, _work) for name, make in (
    ("fact", make_fact), ("translation", make_translation), ("self", make_self), ("greeting", make_greeting), ("writing", make_writing)))
