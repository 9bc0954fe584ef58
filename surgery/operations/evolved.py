"""Modules bred by a genetic search (CNNSplitter, arXiv 2311.04438 §3): a gene is a group of kernels, on or off.

Each class has a population of genomes. Its kernels are sorted by how strongly they answer to the class and put into
groups, layer by layer; layers that the network is sensitive to start fuller. Genomes of several classes are put
together in a tournament, two classes, then four, and so on, and judged by accuracy and by how little they share.

Deviations: kernels are sorted by mean activation over all training samples of the class, the criterion of the scan,
not only over those of high confidence; what is off leaves its mean; population and generations are fields, by
default a fifth and a thirteenth of the paper's; fitness is measured on a few hundred training samples.

Letters: K classes, P genomes per class, G genes, N neurons, n samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surgery.analysis.overlap import jaccard
from surgery.analysis.scan import scan
from surgery.edit.heads import plain

if TYPE_CHECKING:
    from surgery.operations.division import Division

Genomes = NDArray[np.bool_]  # [P, G]
GROUPS, MANY_GROUPS, MANY = 10, 100, 256  # genes of a layer; of one with so many kernels
SENSITIVE, ROBUST = (0.6, 0.8), (0.4, 0.7)  # shares of genes that are on at the beginning
SENSITIVE_AT = 0.05  # accuracy lost when half a layer is off
ACCURACY_WEIGHT = 0.9  # of fitness; the rest is for sharing little
MUTATION = 0.05
PARENTS, ELITE = 0.5, 0.2  # shares of the population
FITTED = 300  # training samples that fitness is measured on
SCANNED = 2_000


@dataclass(frozen=True)
class Genes:
    """Which gene each neuron of a class has: int64[N], −1 = none, always on; and the layer of each gene, int64[G]."""

    of: Tensor
    layer: NDArray[np.int64]

    def masks(self, genomes: Genomes) -> Tensor:
        """bool[P, N]."""
        on = torch.from_numpy(genomes)[:, self.of.clamp(min=0)]
        return torch.where(self.of >= 0, on, torch.ones_like(on))


def evolve(work: Division) -> None:
    """Breed for all generations; the best modules of each are a step to choose from."""
    Breeding(work).run()


def genes_of(work: Division, importance: Tensor) -> Genes:
    """Sort the neurons of each layer by importance: float[N], the weakest first, and cut them into groups."""
    index = work.index
    of = torch.full((index.n,), -1, dtype=torch.long)
    layers: list[int] = []
    for number in range(len(index.layers)):
        own = (work.points & (index.layer_of == number)).nonzero()[:, 0]
        groups = min(GROUPS if len(own) < MANY else MANY_GROUPS, len(own))
        for chunk in own[importance[own].argsort(stable=True)].tensor_split(groups) if groups else ():
            of[chunk] = len(layers)
            layers.append(number)
    return Genes(of[index.group], np.array(layers, dtype=np.int64))


def initial(layer: NDArray[np.int64], sensitive: set[int], count: int, random: np.random.Generator) -> Genomes:
    """bool[count, G]: of each layer's genes a random share is on, larger in layers that are sensitive."""
    genomes = np.zeros((count, len(layer)), dtype=bool)
    for number in np.unique(layer):
        own = np.flatnonzero(layer == number)
        for genome in genomes:
            share = random.uniform(*(SENSITIVE if number in sensitive else ROBUST))
            genome[random.choice(own, max(1, round(share * len(own))), replace=False)] = True
    return genomes


def crossed(mother: Genomes, father: Genomes, random: np.random.Generator) -> Genomes:
    """bool[G]: the mother's genes up to a random point, the father's from there on."""
    point = int(random.integers(0, len(mother) + 1))
    return np.concatenate([mother[:point], father[point:]])


def mutated(genome: Genomes, layer: NDArray[np.int64], random: np.random.Generator) -> Genomes:
    """bool[G]: every gene turned with a small probability; a layer left without any gets one back."""
    genome = genome ^ (random.random(len(genome)) < MUTATION)
    for number in np.unique(layer):
        own = np.flatnonzero(layer == number)
        if not genome[own].any():
            genome[random.choice(own)] = True
    return genome


def fitness(accuracy: float, overlaps: Sequence[float]) -> float:
    """0–1, of modules put together, from their accuracy and the Jaccard overlap of every two."""
    return ACCURACY_WEIGHT * accuracy + (1 - ACCURACY_WEIGHT) * (1 - float(np.mean(overlaps)))


@dataclass(frozen=True)
class Team:
    """One genome for each of some classes: (class, genome) pairs, and how fit they are together."""

    members: tuple[tuple[int, int], ...]
    fitness: float


def tournament(answers: Tensor, truth: Tensor, overlap: NDArray[np.float64], keep: int) -> list[list[Team]]:
    """Teams of two classes, of four, …, of all, at each round the `keep` fittest of every group of classes.

    answers: float[K, P, n], the output of each genome for its class. truth: int64[n]. overlap: float64[K, P, K, P].
    A group is judged on samples of its own classes; the last round's only group has all.
    """
    count, genomes, _ = answers.shape
    groups = [[Team(((k, g),), 0.0) for g in range(genomes)] for k in range(count)]
    rounds: list[list[Team]] = []
    while len(groups) > 1:
        merged = [
            _met(groups[i], groups[i + 1], answers, truth, overlap, keep) if i + 1 < len(groups) else groups[i]
            for i in range(0, len(groups), 2)
        ]
        rounds.append([team for group in merged for team in group])
        groups = merged
    return rounds


def _met(
    left: list[Team], right: list[Team], answers: Tensor, truth: Tensor, overlap: NDArray[np.float64], keep: int
) -> list[Team]:
    """The fittest teams of every one on the left with every one on the right."""
    classes = torch.tensor([k for k, _ in (*left[0].members, *right[0].members)])
    own = torch.isin(truth, classes)
    place = torch.searchsorted(classes, truth[own])
    found = []
    for one in left:
        for other in right:
            members = (*one.members, *other.members)
            logits = torch.stack([answers[k, g, own] for k, g in members])
            accuracy = float((logits.argmax(0) == place).double().mean()) if bool(own.any()) else 0.0
            shared = [overlap[a][b] for a, b in combinations(members, 2)]
            found.append(Team(members, fitness(accuracy, shared)))
    return sorted(found, key=lambda team: -team.fitness)[:keep]


class Breeding:
    """Populations of all classes, generation by generation."""

    def __init__(self, work: Division) -> None:
        self.work, self.plan, self.ctx = work, work.plan, work.ctx
        self.random = np.random.default_rng(work.ctx.seed)
        free = work.removable
        self.fitted = work.masked(work.chosen("train", min(FITTED, work.plan.samples)), free)
        self.judged = work.masked(work.judged, free)
        seen = scan(work.model, work.data, work.ctx, limit=SCANNED)
        column = {output: c for c, output in enumerate(work.model.outputs_of(seen.classes).tolist())}
        self.genes = [genes_of(work, seen.absolute[:, column[k]]) for k in range(len(work.classes))]
        self.heads = [plain(len(work.classes), k).to(work.ctx.device) for k in range(len(work.classes))]
        sensitive = self.sensitive()
        self.genomes = [initial(genes.layer, sensitive, self.plan.population, self.random) for genes in self.genes]
        self.answers = [self._answers(k, own) for k, own in enumerate(self.genomes)]
        self.best = -1.0

    def run(self) -> None:
        """Every generation: a tournament, its winners noted, the next generation bred."""
        for number in self.ctx.track(range(self.plan.generations), "breeding"):
            rounds = tournament(torch.stack(self.answers), self.truth, self._overlap(), self.plan.population)
            winner = max(rounds[-1], key=lambda team: team.fitness)
            if winner.fitness > self.best:
                self.best = winner.fitness
                self._note(f"generation {number + 1}", winner)
            if number + 1 < self.plan.generations:
                self._breed(_ranks(rounds, len(self.genes), self.plan.population))

    @property
    def truth(self) -> Tensor:
        """int64[n] of the samples that fitness is measured on."""
        return self.fitted.truth.cpu()

    def sensitive(self) -> set[int]:
        """Layers of which the network cannot lose half."""
        whole = torch.ones(1, self.work.index.n)
        right = self._right(whole)
        found = set()
        for number in sorted({int(layer) for layer in self.genes[0].layer}):
            own = (self.work.points & (self.work.index.layer_of == number)).nonzero()[:, 0].numpy()
            mask = whole.clone()
            mask[0, self.random.choice(own, len(own) // 2, replace=False)] = 0
            if self._right(mask[:, self.work.index.group]) < right - SENSITIVE_AT:
                found.add(number)
        return found

    def _right(self, mask: Tensor) -> float:
        out = self.fitted.outputs(mask, "looking for sensitive layers")[0]
        return float((out.argmax(1).cpu() == self.truth).double().mean())

    def _answers(self, k: int, genomes: Genomes) -> Tensor:
        """float[P, n]: the output for class k of each of its genomes."""
        return self.fitted.outputs(self.genes[k].masks(genomes), "measuring genomes")[..., k].cpu()

    def _overlap(self) -> NDArray[np.float64]:
        """float64[K, P, K, P]."""
        members = torch.cat([genes.masks(own) for genes, own in zip(self.genes, self.genomes, strict=True)])
        size = len(self.genes), self.plan.population
        return jaccard(members[:, self.work.points].T.numpy()).reshape(*size, *size)

    def _breed(self, ranks: list[list[int]]) -> None:
        """Keep the elite of every class, fill up with children of its better half."""
        count = self.plan.population
        elite, parents = max(1, round(ELITE * count)), max(2, round(PARENTS * count))
        for k, order in enumerate(ranks):
            old, layer = self.genomes[k], self.genes[k].layer
            pairs = [self.random.choice(order[:parents], 2, replace=False) for _ in range(count - elite)]
            children = [mutated(crossed(old[a], old[b], self.random), layer, self.random) for a, b in pairs]
            kept = order[:elite]
            self.answers[k] = torch.cat([self.answers[k][kept], self._answers(k, np.stack(children))])
            self.genomes[k] = np.concatenate([old[kept], np.stack(children)])

    def _note(self, name: str, winner: Team) -> None:
        chosen = dict(winner.members)
        masks = [genes.masks(self.genomes[k][chosen[k]][None])[0] for k, genes in enumerate(self.genes)]
        keep = self.work.closed(torch.stack(masks))
        self.work.add(name, keep, self.heads, self.judged.outputs(keep, "validating"))


def _ranks(rounds: list[list[Team]], classes: int, count: int) -> list[list[int]]:
    """For each class its genomes, those first that came furthest and, as far, were in the fitter team."""
    best = np.full((classes, count), -1.0)
    for reached, teams in enumerate(rounds):
        for team in teams:
            for k, genome in team.members:
                best[k, genome] = max(best[k, genome], reached + team.fitness)
    return [np.argsort(-own, kind="stable").tolist() for own in best]
