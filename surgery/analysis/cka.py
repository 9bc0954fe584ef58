"""How alike two representations are: debiased linear CKA, from Gram matrices over the same samples."""

from __future__ import annotations

from torch import Tensor


def debiased_cka(one: Tensor, other: Tensor) -> Tensor:
    """float[…]: debiased linear CKA of Gram matrices float[…, b, b], b ≥ 4; 0 where one of them is constant.

    CKA = ⟨A, B⟩ ÷ √(⟨A, A⟩⟨B, B⟩) of the debiased matrices (Kornblith et al., arXiv 1905.00414, with the unbiased
    estimator of HSIC of Song et al. 2012). It may be slightly negative.
    """
    a, b = debiased(one), debiased(other)
    cross, own, others = (a * b).sum((-2, -1)), a.square().sum((-2, -1)), b.square().sum((-2, -1))
    size = (own * others).sqrt()
    return (cross / size.clamp(min=1e-30)).where(size > 0, cross.new_zeros(()))


def debiased(gram: Tensor) -> Tensor:
    """A Gram matrix, float[…, b, b], centred so that inner products estimate HSIC without bias; diagonal 0."""
    n = gram.shape[-1]
    g = gram.clone()
    g.diagonal(dim1=-2, dim2=-1).zero_()
    means = g.sum(-1) / (n - 2)
    means = means - means.sum(-1, keepdim=True) / (2 * (n - 1))
    g = g - means[..., :, None] - means[..., None, :]
    g.diagonal(dim1=-2, dim2=-1).zero_()
    return g
