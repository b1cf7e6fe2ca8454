"""The text around a question and inside an answer: prompt templates, the chat format, and the one grammar that reads a completion.

Every reward, board and evaluation reads completions through `parse`, so that nothing can be right for one of them and wrong for another.
"""

import re
from dataclasses import dataclass
from typing import Literal

PAD, EOS, USER, ASSISTANT = "<|pad|>", "<|eos|>", "<|user|>", "<|assistant|>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")

# The paper's structure (Table 1): who speaks, think first, answer second, in which tags; then the question. The words are ours.
PAPER_TEMPLATE = (
    "Below, a User talks with an Assistant. The User asks a question and the Assistant answers it. Before it answers, the Assistant works "
    "the question out in its mind. What it thinks stands between <think> and </think>, what it answers stands between <answer> and "
    "</answer>, like this: <think> how it reasons </think> <answer> what it answers </answer>. User: {question} Assistant:"
)
# The same in fewer tokens, for models of a few million parameters that read every prompt token on two cores.
MINIATURE_TEMPLATE = "The Assistant thinks in <think> </think>, then answers in <answer> </answer>.\nUser: {question}\nAssistant:"

_TEMPLATES = {"paper": PAPER_TEMPLATE, "miniature": MINIATURE_TEMPLATE}


def zero_prompt(question: str, *, template: Literal["miniature", "paper"] = "miniature") -> str:
    """The R1-Zero prompt: plain text, no chat tokens, no system role, and no hint how to think (paper section 2.2.3)."""
    return _TEMPLATES[template].replace("{question}", question)


def chat_prompt(question: str) -> str:
    """The R1 chat prompt, for models that had supervised fine-tuning."""
    return f"{USER}{question}{ASSISTANT}"


@dataclass(frozen=True)
class Parsed:
    """A completion taken apart.

    think, answer: the text inside the tags without outer white space, or None where it cannot be told which text that is.
    faults: what departs from `<think> ... </think> <answer> ... </answer>`, in words; empty for a well-formed completion.
    """

    think: str | None
    answer: str | None
    faults: tuple[str, ...]

    @property
    def well_formed(self) -> bool:
        return not self.faults


_TAG = re.compile("|".join(re.escape(tag) for tag in TAGS))


def parse(completion: str) -> Parsed:
    """Read one completion: white space is free, order is not, no tag twice, nothing before, between or after.

    Text behind the first end-of-text token is not the model's answer and is not looked at. An answer is returned only when it is the single
    `<answer>` element and lies outside the thinking, so that an answer hidden in the thinking, or one of several, earns nothing.
    """
    text = completion.split(EOS, 1)[0]
    marks = [(match.group(), match.start(), match.end()) for match in _TAG.finditer(text)]
    seen = [mark[0] for mark in marks]
    faults = [f"{tag} is missing" for tag in TAGS if tag not in seen]
    faults += [f"{tag} stands {seen.count(tag)} times" for tag in TAGS if seen.count(tag) > 1]

    def inside(opening: str, closing: str) -> str | None:
        """The text of an element whose two tags stand once each, next to each other."""
        if seen.count(opening) != 1 or seen.count(closing) != 1:
            return None
        first = seen.index(opening)
        if first + 1 >= len(seen) or seen[first + 1] != closing:
            return None
        return text[marks[first][2]:marks[first + 1][1]].strip()

    think, answer = inside("<think>", "</think>"), inside("<answer>", "</answer>")
    if answer is not None:
        place = seen.index("<answer>")
        if seen[:place][-1:] == ["<think>"] or "</think>" in seen[place:]:
            answer = None                                        # inside a thinking, closed or not, or before it
    if not faults and seen != list(TAGS):
        faults.append("the tags stand in another order")
    if not faults:
        gaps = [text[:marks[0][1]], text[marks[1][2]:marks[2][1]], text[marks[3][2]:]]
        places = ["before <think>", "between </think> and <answer>", "after </answer>"]
        faults += [f"text {place}" for gap, place in zip(gaps, places, strict=True) if gap.strip()]
        faults += [f"nothing in {name}" for name, element in (("<think>", think), ("<answer>", answer)) if not element]
    return Parsed(think, answer, tuple(faults))


# The ten reflective words that the paper counts (Nature, Extended Data Fig. 1), and what stands for them in Chinese.
REFLECTION_WORDS = ("wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check")
REFLECTION_WORDS_ZH = ("等等", "检查", "不对", "错")
# A Chinese character is a word character to `\b`, so that "再check一下" would hold no word; and 没错, 不错 mean that all is well.
_REFLECTION = re.compile(
    rf"(?<![A-Za-z0-9_])(?:{'|'.join(REFLECTION_WORDS)})(?![A-Za-z0-9_])|(?<![没不])(?:{'|'.join(REFLECTION_WORDS_ZH)})", re.IGNORECASE)


def reflection_count(text: str) -> int:
    """How many reflective words a text holds."""
    return len(_REFLECTION.findall(text))


_LATIN_WORD = re.compile(r"[A-Za-z]{2,}")          # one letter alone is a variable, not a word
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_CHARACTERS_PER_CHINESE_WORD = 1.6                 # so that words of both languages weigh alike
# Tags, code and the commands of TeX belong to no language, whatever letters they are written in.
_NOT_LANGUAGE = re.compile(rf"{_TAG.pattern}|```(?s:.*?)```|`[^`\n]*`|^[ \t]*(?:def|return)\b.*|\\[A-Za-z]+", re.MULTILINE)


def chinese_share(text: str) -> float:
    """The share of Chinese among the words of a text, 0 to 1; tags, code, numbers and signs are no words. Without words it is 0."""
    text = _NOT_LANGUAGE.sub(" ", text)
    chinese = len(_CHINESE.findall(text)) / _CHARACTERS_PER_CHINESE_WORD
    words = chinese + len(_LATIN_WORD.findall(text))
    return chinese / words if words else 0.0


def thinking(completion: str) -> str:
    """The text in the `<think>` element; where it cannot be told which text that is (no tags, cut off), all that stands before the answer.

    So a model that has not learnt the tags yet is measured by the same yardstick as one that has.
    """
    think = parse(completion).think
    return completion.split(EOS, 1)[0].split("<answer>", 1)[0] if think is None else think


def mixes_languages(think: str, language: str) -> bool:
    """Whether thinking about a question in this language ("en" or "zh") uses words of the other one; `thinking` says which text to pass.

    Foreign is any Chinese character to an English question, any Latin word of two letters or more to a Chinese one (`x` is a variable).
    """
    foreign = _LATIN_WORD if language == "zh" else _CHINESE
    return foreign.search(_NOT_LANGUAGE.sub(" ", think)) is not None
