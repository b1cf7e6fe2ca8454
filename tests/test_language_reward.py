"""The language-consistency reward: what counts as a word of which language, and what does not help against it."""

import importlib.util
import itertools
import sys
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r1lib import text
from r1lib.errors import R1Error
from r1lib.rewards.language import LANGUAGES, language_consistency, language_consistency_reward
from r1lib.tasks import corpus

WITH_LINGUA = pytest.mark.skipif(importlib.util.find_spec("lingua") is None, reason="lingua is not installed")
ZH = 1 / 1.6                                       # words in a Chinese character


def response(think: str) -> str:
    return f"<think>\n{think}\n</think>\n<answer>7</answer>"


def share(think: str, language: str) -> float:
    (reward,) = language_consistency_reward([response(think)], [language])
    return reward


# language -> a sentence with the letters that are its own
SENTENCES = {
    "en": "so we add the two numbers", "de": "wir zählen größere Maße", "fr": "où naît l'œuvre déçue", "es": "el año señala ocho",
    "it": "così è più bello", "pt": "não há lições", "nl": "één ijsje", "pl": "zażółć gęślą jaźń Łódź", "tr": "ışık çağı",
    "vi": "Việt Nam đẹp lắm", "zh": "我们把两个数加起来，𠮷々", "ja": "二つの数を足します。カーテン", "ko": "두 수를 더합니다",
    "ru": "и мы складываем два числа", "uk": "її ґанок",
    "ar": "نَجْمَعُ العددين", "he": "אנחנו מחברים", "el": "προσθέτουμε τους αριθμούς", "hi": "हम दो संख्याएँ जोड़ते हैं", "th": "เราบวกสองจำนวน",
}


def test_every_language_of_the_table_is_its_own() -> None:
    assert SENTENCES.keys() == LANGUAGES.keys()
    for language, sentence in SENTENCES.items():
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            assert share(unicodedata.normalize(form, sentence), language) == 1.0, (language, form)
        for other in LANGUAGES:
            if not set(LANGUAGES[language]) & set(LANGUAGES[other]):
                assert share(sentence, other) == 0.0, (language, other)
                assert 0 < share(f"{sentence} {SENTENCES[other]}", other) < 1, (language, other)


@pytest.mark.parametrize(("think", "language", "expected"), [
    ("so we add 3 and 4", "en", 1.0),
    ("so we add 3 and 4. 得到", "en", 4 / (4 + 2 * ZH)),
    ("so we add 3 and 4. 得到", "zh", 2 * ZH / (4 + 2 * ZH)),
    ("我们算 x = 5", "zh", 1.0),
    ("我们 compute 一下", "zh", 4 * ZH / (4 * ZH + 1)),
    ("これは計算です", "zh", 2 * ZH / (7 * ZH)),
    ("计算", "ja", 1.0),
    ("x α y", "zh", 1.0),
    ("да и нет", "ru", 1.0),
    ("да и no", "ru", 2 / 3),
    ("ሰላም hello", "en", 0.5),                     # a script that the table does not name
    ("❶ first, ② second ½ ⅷ ²", "zh", 0.0),
    ("我们加。❶②½² ～！", "zh", 1.0),
    ("ʻokina ʹ so", "en", 1.0),                    # modifier letters are signs
    ("so 5 min 了", "en", 2 / (2 + ZH)),           # units are words where all words are Latin
    ("漢字とカーテンと𠮷々", "ja", 1.0),
])
def test_shares_by_hand(think: str, language: str, expected: float) -> None:
    assert share(think, language) == pytest.approx(expected)


@pytest.mark.parametrize("think", ["3+4=7", "12", "x = 5", "$x^2$", "\\boxed{7}", "!?", "```python\nfor x in y:\n    z(x)\n```", "🙂",
                                   "Δx = πr"])
def test_a_thinking_without_words_is_in_no_wrong_language(think: str) -> None:
    assert share(think, "en") == share(think, "zh") == 1.0


@pytest.mark.parametrize("completion", [
    "", "7", "so we add", "<answer>7</answer>", "<think></think><answer>7</answer>", "<think> \n\u3000</think><answer>7</answer>",
    "<think>", "<think><think>", "<think></think><think></think><answer>7</answer>", f"7{text.EOS}<think>so we add</think>",
    f"<think>{text.PAD}</think>", f"{text.EOS}<think>so</think>"])
def test_no_thinking_earns_nothing(completion: str) -> None:
    assert language_consistency_reward([completion], ["en"]) == [0.0]


def test_a_thinking_that_is_cut_off_or_opened_by_the_prompt_is_measured() -> None:
    assert language_consistency_reward(["<think> so we 加", "so we 加</think><answer>7</answer>"], ["en", "en"]) == [2 / (2 + ZH)] * 2


def test_only_the_thinking_is_measured() -> None:
    assert language_consistency_reward(["<think>so we add</think><answer>我们得到七</answer>"], ["en"]) == [1.0]


def test_rows_without_a_language_are_left_out_and_the_order_is_kept() -> None:
    written = [response("so"), response("得"), response("得"), response("so")]
    spoken = [[{"role": "assistant", "content": completion}] for completion in written]
    for completions in (written, spoken):
        earned = language_consistency_reward(completions, ["en", None, "zh", "zh"], prompts=["?"] * 4, trainer_state=None)
        assert earned == [1.0, None, 1.0, 0.0]
    assert language_consistency_reward([], []) == []
    assert language_consistency_reward.__name__ == "language_consistency_reward"


@pytest.mark.parametrize("wrong", ["xx", "EN", "english", "", 7, ["en"]])
def test_an_unknown_language_is_one_line_that_names_the_row(wrong: object) -> None:
    with pytest.raises(R1Error) as caught:
        language_consistency_reward([response("so")] * 3, ["en", None, wrong])
    message = str(caught.value)
    assert message.startswith(f"row 2: language {wrong!r} ") and all(code in message for code in LANGUAGES) and "\n" not in message


def test_columns_must_be_as_long_as_the_completions() -> None:
    with pytest.raises(ValueError):
        language_consistency_reward([response("so")] * 2, ["en"])


# What is no language

@pytest.mark.parametrize("think", [
    "我们算 $speed * time$ 得到", "我们算 $$\nspeed \\cdot time\n$$ 得到", "我们算 \\(speed * time\\) 得到",
    "我们算 \\[ speed\n = dist \\] 得到", "我们得到 \\boxed{yes}", "我们算 \\frac{a}{b} \\times \\left( c \\right)",
    "我们用 `total += item` 算", "我们算\n```python\nimport math\n```\n得到",
    "我们算\n```python\nif number not in seen and total:\n    total = max(total, number)",
    "我们写\n    return value if value else other\n得到", "我们写\ndef add(first, second):\n得到",
    "看 https://example.org/some/page?for=you 得到", "看 www.example.org/page，得到",
    "高 5 cm，重3kg，用 20 min", "算 cos(x)+sin 3=gcd(12, 18)+log_2(8)", "x 和 y", "点 a b 好", "我们算 $αβ = γδ$",
    "Ann有3个苹果，Ben 有4个", "给 Ann 两个。Ann和Ben", "三角形 ABC 中，AB 长", "在 New York City 的", "用Python写", "给Ann-Marie两个",
    "这是Łódź的"])
def test_mathematics_code_addresses_and_names_are_no_words(think: str) -> None:
    assert share(think, "zh") == 1.0


def test_names_in_other_scripts_than_chinese() -> None:
    assert share("Ann купила 3 яблока", "ru") == share("그래서 Ann 은", "ko") == share("ו Ann קנתה", "he") == 1.0
    assert share("Ann bought 3 apples 了", "en") == pytest.approx(3 / (3 + ZH)), "in a Latin language a name is a word"


def test_amounts_in_dollars_are_no_mathematics() -> None:
    for amounts in ("每个$2, so we pay $3 了", "每个$2-$3 so we pay 了", "$5,$6 so we pay 了", "($2) so we pay ($3) 了", "$2 so we pay 了"):
        assert share(amounts, "zh") == pytest.approx((amounts.count("每") + amounts.count("个") + 1) * ZH
                                                     / ((amounts.count("每") + amounts.count("个") + 1) * ZH + 3)), amounts
    for amounts in ("3 $ so we pay$了", "$3 so we pay $ 了"):
        assert share(amounts, "zh") == pytest.approx(ZH / (ZH + 3)), amounts
    assert share("每个$so$了", "zh") == 1.0


# What does not help

@pytest.mark.parametrize("think", [
    "ｓｏ ｗｅ ａｄｄ ｔｈｅｍ", "𝐬𝐨 𝐰𝐞 𝐚𝐝𝐝 𝐭𝐡𝐞𝐦", "ⓢⓞ ⓦⓔ ⓐⓓⓓ ⓣⓗⓔⓜ", "s\u200bo w\u2060e a\u00add\ufeffd t\u200dhem",
    "s\u0301o\u0336 w\u0308e a\u0301d\u0301d them",
    "sø wé ædd ŧhem", "sᴏ wᴇ ᴀdd tʜem",
    "$so we add them$", "$$so we add them$$", "$so$ $we$ $add$ $them$", "$\\text{so we add them}$", "\\(so we add them\\)",
    "\\[so we add them\\]", "\\boxed{so we add them}", "\\so \\we \\add \\them", "`so we add them`", "`so` `we` `add` `them`",
    "```so we add them```", "```\nso we add them", "``` so we add them\nx", "return so we add them",
    "def so we add them", "https://a.b so we add them",
    "`s\u00f6 w\u200be \u00e0dd th\u0301em`", "$ｓｏ ｗｅ ａｄｄ ｔｈｅｍ$"])
def test_a_sentence_in_disguise_counts_as_it_is(think: str) -> None:
    bare = 4 * ZH / (4 * ZH + 4)
    assert share(f"我们得到\n{think}", "zh") == pytest.approx(bare, abs=0.06)
    assert share(think, "zh") == 0.0


def test_chinese_in_mathematics_and_code_is_chinese() -> None:
    for think in ("$我们把两个数加起来$", "`我们把两个数加起来`", "```\n# 我们把两个数加起来\n```", "\\boxed{我们把两个数加起来}"):
        assert share(think, "en") == 0.0
        assert share(f"so we {think}", "en") == pytest.approx(2 / (2 + 9 * ZH))


def test_words_in_letters_that_look_alike_belong_to_no_language() -> None:
    alike = "тhаt suм оf thеm"                                     # a, e, o, t and m are Cyrillic here
    assert share(alike, "en") <= 1 / 3 and share(alike, "ru") == 0.0 and share(alike, "zh") == 0.0
    assert share("привет мир", "ru") == 1.0 and share("Δx, πr, 5μm", "zh") == 1.0


def test_spelling_a_word_out_is_a_word() -> None:
    assert share("h e l l o 好", "zh") == pytest.approx(ZH / (ZH + 1))
    assert share("a + b, c = d 好", "zh") == 1.0


@pytest.mark.parametrize("think", [
    "So我们算", "Wait 我们算", "但是But我们", "Let Me 我们算", "We Add The Two 我们", "ann 有3个", "Ann likes 苹果", "3*4. Okay. 我们算",
    "3*4. Foo. 我们算", "Maybe 3*4 再算", "给 Foo Bar Baz Qux 两个", "Foo我们Bar我们Baz我们Qux我们Zap我们"])
def test_capitals_alone_make_no_name(think: str) -> None:
    assert share(think, "zh") < 1.0


def test_four_names_are_names_and_five_are_a_language() -> None:
    names = ["Foo", "Bar", "Baz", "Qux", "Zap"]
    assert share("".join(f"{name}我们" for name in names[:4] * 9), "zh") == 1.0
    assert share("".join(f"{name}我们" for name in names), "zh") == pytest.approx(10 * ZH / (10 * ZH + 5))


def test_invisible_letters_are_no_korean() -> None:
    assert share("so we \u3164\u3164 \uffa0 \u115f\u1160", "ko") == 0.0
    assert share("so we \u3164\u3164 \uffa0 \u115f\u1160", "en") == 1.0


def test_padding_with_the_target_language_never_reaches_one() -> None:
    """The paper's share rises with padding; that is for rewards of length and repetition to answer. But it stays a share."""
    shares = [share("我们 but 得到" + "好" * more, "zh") for more in (0, 10, 100, 100_000)]
    assert shares == sorted(set(shares)) and shares[-1] < 1.0


def test_tags_and_marks_inside_the_thinking_are_no_words() -> None:
    assert language_consistency_reward([f"<think>好 <think> {text.USER}{text.ASSISTANT}{text.PAD} 的</think><answer>7"], ["zh"]) == [1.0]


PIECES = st.sampled_from([*text.TAGS, text.EOS, "$", "$$", "`", "```", "\\(", "\\)", "\\[", "\\]", "\\boxed{", "}", "\\frac", "http://",
                          "www.", "return ", "def ", "\n", " ", "so", "Ann", "我们", "да", "α", "\u0301", "\u200b", "\ud800", "\x00", "ｓ",
                          "5 cm", "한", "ก", "0", "!"])
COMPLETIONS = st.one_of(st.text(), st.lists(PIECES, max_size=16).map("".join), st.lists(PIECES, max_size=16).map("".join).map(response))


@settings(deadline=None)
@given(st.lists(st.tuples(COMPLETIONS, st.sampled_from([*LANGUAGES, None])), max_size=4))
@example([("<think>\ud800</think>", "zh")])
def test_any_completion_earns_a_share(rows: list[tuple[str, str | None]]) -> None:
    completions, languages = [row[0] for row in rows], [row[1] for row in rows]
    rewards = language_consistency_reward(completions, languages)
    assert rewards == language_consistency_reward([[{"role": "assistant", "content": completion}] for completion in completions], languages)
    assert len(rewards) == len(rows)
    for (completion, language), reward in zip(rows, rewards, strict=True):
        assert (reward is None) == (language is None) and (reward is None or 0.0 <= reward <= 1.0)
        assert [reward] == language_consistency_reward([completion], [language])


@pytest.mark.parametrize("piece", [
    "so we add ", "我们", "$", "$a", "$$", "$$a", "`", "```", "\\(", "\\[", "\\[$", "\\boxed{", "\\a", "http://", "return ", "\nreturn a",
    "<think>", "a", "A ", "Ann我", "a ", "тh", "Ω", "é", "e\u0301", "\u0301\u0316", "\u200b", "\ufdfa", "ሰ", "5 cm", "\ud800",
    ", ", "`a` "])
def test_a_megabyte_is_read_in_linear_time(piece: str) -> None:
    """A second or two at most; a quadratic rule would take minutes."""
    think = piece * (1_000_000 // len(piece.encode("utf-8", "surrogatepass")))
    begin = time.perf_counter()
    language_consistency_reward([response(think)], ["zh"])
    assert time.perf_counter() - begin < 20


# On bilingual text

def test_on_the_corpus_it_agrees_with_the_share_of_chinese() -> None:
    """1 on every worked answer in one language; on mixed ones it is the target's share."""
    pure = mixed = 0
    for document in itertools.islice(corpus.documents("language reward", 0), 3000):
        think = text.parse(document.text.removeprefix(text.zero_prompt(document.problem.question))).think
        if document.template != "zero" or not think:
            continue
        reward, chinese = share(think, document.problem.language), text.chinese_share(think)
        if document.manner in ("steps", "slips", "check", "retry"):
            assert reward == 1.0, think
            pure += 1
        elif document.manner == "mixed" and document.problem.domain != "code" and (chinese or any(letter.isalpha() for letter in think)):
            assert reward == pytest.approx(chinese if document.problem.language == "zh" else 1 - chinese), think
            mixed += 0 < reward < 1
    assert pure > 150 and mixed > 20


# Languages of one script

@WITH_LINGUA
def test_languages_of_one_script_are_told_apart() -> None:
    reward = language_consistency(among=("en", "fr"))
    english, french = "so we add the two numbers and get seven", "donc nous ajoutons les deux nombres et voilà"
    completions = [response(english), response(english), response(french), response(f"{english}. {french}."), response(f"{english}. 我们"),
                   response("3+4=7"), response(french), "", response(english)]
    languages = ["en", "fr", "fr", "en", "en", "fr", "zh", "fr", None]
    assert reward(completions, languages) == [1.0, 0.0, 1.0, 9 / 17, 9 / (9 + 2 * ZH), 1.0, 0.0, 0.0, None]
    assert reward([response("wir zählen")], ["de"]) == [1.0], "a language that is not among them is judged by script"
    assert reward.__name__ == "language_consistency_reward"
    for disguise in ("ｄｏｎｃ ｎｏｕｓ ａｊｏｕｔｏｎｓ ｄｅｕｘ ｎｏｍｂｒｅｓ", "𝐝𝐨𝐧𝐜 𝐧𝐨𝐮𝐬 𝐚𝐣𝐨𝐮𝐭𝐨𝐧𝐬 𝐝𝐞𝐮𝐱 𝐧𝐨𝐦𝐛𝐫𝐞𝐬",
                     "\u200b".join("il faut trouver huit")):
        assert reward([response(disguise)] * 2, ["en", "fr"]) == [0.0, 1.0], disguise
    assert reward([response("ŋŋ")] * 2, ["en", "fr"]) == [1.0, 1.0], "where nothing tells, nothing is held against it"
    assert reward([response("\ud800 so we add the numbers")], ["en"]) == [1.0]


@WITH_LINGUA
@pytest.mark.parametrize("piece", ["so we add ", "1.", ". ", "so.", "\u0301\u0316", "a\u0301\u0316", "é", "我", "\ud800"])
def test_a_megabyte_is_read_in_linear_time_by_lingua(piece: str) -> None:
    think = piece * (1_000_000 // len(piece.encode("utf-8", "surrogatepass")))
    begin = time.perf_counter()
    language_consistency(among=("en", "fr"))([response(f"{think} so")], ["en"])
    assert time.perf_counter() - begin < 60


@WITH_LINGUA
def test_scripts_that_overlap_are_told_apart() -> None:
    reward = language_consistency(among=("zh", "ja"))
    chinese = "因此我们把这两个数字加起来"
    assert language_consistency_reward([response(chinese)], ["ja"]) == [1.0]
    assert reward([response(chinese)] * 2, ["ja", "zh"]) == [0.0, 1.0]


@WITH_LINGUA
@settings(deadline=None, max_examples=50)
@given(COMPLETIONS, st.sampled_from(["en", "fr", "zh"]))
def test_any_completion_earns_a_share_by_lingua(completion: str, language: str) -> None:
    reward = language_consistency(among=("en", "fr"))
    (earned,) = reward([completion], [language])
    assert 0.0 <= earned <= 1.0 and [earned] == reward([completion], [language])


def test_a_missing_lingua_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from r1lib.rewards import language

    language._detector.cache_clear()
    monkeypatch.setitem(sys.modules, "lingua", None)
    with pytest.raises(R1Error, match="pip install lingua-language-detector==2.1.1"):
        language_consistency(among=("en", "fr"))


@pytest.mark.parametrize(("among", "named"), [
    (("en", "xx"), "'xx'"), (("en", "zh"), "no two languages of one script"), (("en",), "no two"), ((), "no two")])
def test_what_cannot_be_told_apart_is_said(among: tuple[str, ...], named: str) -> None:
    with pytest.raises(R1Error, match=named) as caught:
        language_consistency(among=among)
    assert "\n" not in str(caught.value)
