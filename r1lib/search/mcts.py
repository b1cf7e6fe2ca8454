"""Monte Carlo tree search over the steps of an answer, as AlphaGo searches over moves (v1 section 4.2; v2 G.2).

A node is an answer so far, up to the end of a step. A simulation walks down by PUCT to a node that has not been looked at, asks the value
model how well an answer would end from there, lets the policy sample a few next steps, which become the node's children, and tells all
nodes on the way what the value model said. The paper met two limits: there are exponentially more texts than positions on a board, so the
number of children has to be capped, which leads into local optima; and everything hangs on a value model that is hard to train.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.sampling import Rollout, SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.search import steps
from r1lib.seeds import derive

# (prompts, answers so far, whether they have ended) -> for each how likely it is to end well, 0 to 1.
Value = Callable[[Sequence[str], Sequence[str], Sequence[bool]], Sequence[float]]


@dataclass(frozen=True)
class MCTSSettings:
    """How a tree is searched.

    simulations: nodes that are looked at, the root among them. children: steps that are sampled from a node, the cap of the paper; equal
    ones become one child. exploration: PUCT's constant. max_step_tokens: a longer step is cut, and goes on in the next.
    max_tokens: of an answer; a node that has so many is not expanded.
    """

    simulations: int = 16
    children: int = 3
    exploration: float = 1.0
    max_step_tokens: int = 40
    max_tokens: int = 160
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("simulations", "children", "max_step_tokens", "max_tokens"):
            if getattr(self, name) < 1:
                raise R1Error(f"MCTS: {name}={getattr(self, name)!r}, but it must be a whole number of at least 1.")
        if self.exploration < 0:
            raise R1Error(f"MCTS: exploration={self.exploration!r}, but it must not be below 0.")


@dataclass(eq=False)
class Node:
    """An answer so far. prior: the policy's probability of its last step among its siblings; own_value: what the value model says of it,
    once it was asked; value: the mean of what it said of this node and those below it, over all visits."""

    text: str
    tokens: int = 0
    prior: float = 1.0
    ended: bool = False
    parent: "Node | None" = None
    children: list["Node"] = field(default_factory=list)
    visits: int = 0
    total: float = 0.0
    own_value: float | None = None

    @property
    def value(self) -> float:
        return self.total / self.visits if self.visits else 0.0

    def below(self) -> Iterator["Node"]:
        """This node and all below it."""
        yield self
        for child in self.children:
            yield from child.below()


def puct(node: Node, child: Node, exploration: float) -> float:
    """What makes a child worth a visit (AlphaGo Zero, Methods): its value, and a bonus for what is likely and has been visited seldom.

    A child without a visit is taken to be worth what its parent is.
    """
    expected = child.value if child.visits else node.value
    return expected + exploration * child.prior * math.sqrt(node.visits) / (1 + child.visits)


def select(root: Node, exploration: float) -> Node:
    """Down the tree, always to the most promising child, to a node without children."""
    node = root
    while node.children:
        node = max(node.children, key=lambda child: puct(node, child, exploration))
    return node


def tell(node: Node | None, value: float) -> None:
    """Tell a node and all above it what came of a visit."""
    while node is not None:
        node.visits += 1
        node.total += value
        node = node.parent


@dataclass(frozen=True)
class Tree:
    """A finished search. generated: the tokens that the policy has written for it, in steps that were merged and in the last answer too."""

    root: Node
    answer: str
    ended: bool
    generated: int

    @property
    def answers(self) -> list[str]:
        """All whole answers in the tree."""
        return [node.text for node in self.root.below() if node.ended]


class StepSampler:
    """Samples single steps: the policy's own sampler, which stops at the end of a line as well."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._sampler = TorchSampler(_Lines(policy.model, policy.tokenizer, policy.folder))

    def sample(self, prompts: Sequence[str], samples: int, settings: SamplingSettings, *, seed: int) -> list[Rollout]:
        """As `TorchSampler.sample`; the text keeps the newline, and `finished` says that the answer ended, not just the step."""
        found = self._sampler.sample(prompts, samples, settings, seed=seed)
        for rollout in found:
            rollout.finished = rollout.ids[-1] in self.policy.stop_ids
            rollout.text = self.policy.decode(rollout.ids)
        return found


class _Lines(Policy):
    """A policy for which the end of a line is the end of a text."""

    @property
    def stop_ids(self) -> frozenset[int]:
        return super().stop_ids | steps.newlines(self.tokenizer)


def search(policy: Policy, prompts: Sequence[str], value: Value, settings: MCTSSettings, *, seed: int) -> list[Tree]:
    """A tree for each prompt, all searched side by side so that the sampler is given many prompts at once.

    The answer is the whole one in the tree that the value model likes best. Where there is none, the policy goes on from the most visited
    line of nodes to the end.
    """
    sampler, one = StepSampler(policy), SamplingSettings(settings.max_step_tokens, settings.temperature)
    roots, generated = [Node("") for _ in prompts], [0] * len(prompts)
    for simulation in range(settings.simulations):
        leaves = [select(root, settings.exploration) for root in roots]
        new = [i for i, leaf in enumerate(leaves) if leaf.own_value is None]
        for i, worth in zip(new, value([prompts[i] for i in new], [leaves[i].text for i in new], [leaves[i].ended for i in new]),
                            strict=True):
            leaves[i].own_value = worth
        for leaf in leaves:
            tell(leaf, leaf.own_value)
        growing = [i for i in new if not leaves[i].ended and leaves[i].tokens < settings.max_tokens]
        found = sampler.sample([prompts[i] + leaves[i].text for i in growing], settings.children, one,
                               seed=derive("mcts", seed, simulation))
        for rollout in found:
            generated[growing[rollout.prompt_index]] += len(rollout.ids)
        for place, i in enumerate(growing):
            grow(leaves[i], found[place * settings.children:(place + 1) * settings.children])
    whole = [(i, node) for i, root in enumerate(roots) for node in root.below() if node.ended and node.own_value is None]
    worths = value([prompts[i] for i, _ in whole], [node.text for _, node in whole], [True] * len(whole))
    for (_, node), worth in zip(whole, worths, strict=True):
        node.own_value = worth
    return _answered(policy, prompts, roots, generated, settings, seed)


def grow(leaf: Node, found: Sequence[Rollout]) -> None:
    """Give a node the steps that were sampled from it as children, equal ones once, with the policy's probabilities as priors."""
    chances: dict[str, tuple[Rollout, float]] = {rollout.text: (rollout, math.exp(sum(rollout.logprobs))) for rollout in found}
    total = sum(chance for _, chance in chances.values())
    leaf.children = [Node(leaf.text + said, leaf.tokens + len(rollout.ids), chance / total if total else 1 / len(chances), rollout.finished,
                          leaf) for said, (rollout, chance) in chances.items()]


def _answered(policy: Policy, prompts: Sequence[str], roots: Sequence[Node], generated: Sequence[int], settings: MCTSSettings,
              seed: int) -> list[Tree]:
    """The answer of each tree: the whole one that the value model likes best, or the most visited line written to its end."""
    chosen, unfinished = {}, []
    for i, root in enumerate(roots):
        whole = [node for node in root.below() if node.ended]
        if whole:
            chosen[i] = Tree(root, max(whole, key=lambda node: node.own_value).text, True, generated[i])
        else:
            unfinished.append(i)
    lines = [most_visited(roots[i]) for i in unfinished]
    rest = TorchSampler(policy).sample([prompts[i] + line.text for i, line in zip(unfinished, lines, strict=True)], 1,
                                       SamplingSettings(settings.max_tokens, settings.temperature), seed=derive("mcts", seed, "rest"))
    for i, line, rollout in zip(unfinished, lines, rest, strict=True):
        chosen[i] = Tree(roots[i], line.text + rollout.text, rollout.finished, generated[i] + len(rollout.ids))
    return [chosen[i] for i in range(len(roots))]


def most_visited(root: Node) -> Node:
    """Down the tree, always to the child with the most visits, as AlphaGo plays."""
    node = root
    while any(child.visits for child in node.children):
        node = max(node.children, key=lambda child: child.visits)
    return node
