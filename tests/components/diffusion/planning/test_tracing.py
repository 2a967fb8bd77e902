"""The counter of living bytes, and the functions that stand for a GPU's."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from components.diffusion.planning.tracing import META, LiveBytes, backward, on_gpu

KB = 1024


def empty(*shape: int, **options: Any) -> torch.Tensor:
    return torch.empty(*shape, device=META, **options)


def test_bytes_are_counted_by_storage_and_forgotten_when_dropped() -> None:
    known = empty(256)
    with LiveBytes([known]) as live:
        first = empty(256)
        view = first.view(16, 16)
        assert live.now == KB
        del first
        assert live.now == KB
        del view
        assert live.now == 0
        known.add_(1)
        twice = known * 2
        again = known * 2
        assert live.now == 2 * KB
        del twice, again
    assert (live.now, live.peak) == (0, 2 * KB)


def test_what_backward_needs_lives_until_then_and_a_remembered_shape_is_counted_again() -> None:
    weight = empty(64, 64, requires_grad=True)
    size = 64 * 64 * 4

    def chain(inputs: torch.Tensor) -> torch.Tensor:
        for _ in range(4):
            inputs = torch.tanh(inputs @ weight)
        return inputs

    with on_gpu(), LiveBytes([weight]) as live:
        loss = chain(empty(64, 64)).sum()
        # The input, and each tanh's result: what it multiplied is not needed any more.
        assert live.now == 5 * size + 4
        backward(loss)
    del loss
    assert live.now == size and weight.grad is not None
    weight.grad = None
    with on_gpu(), LiveBytes([weight]) as live:
        loss = checkpoint(chain, empty(64, 64, requires_grad=True), use_reentrant=False).sum()
        assert live.now == size + 4
        backward(loss)
    assert live.peak > 5 * size


@pytest.mark.parametrize("checkpointing", [False, True])
def test_attention_keeps_no_matrix_of_weights_also_where_it_is_computed_again(checkpointing: bool) -> None:
    states = empty(1, 8, 4096, 64, requires_grad=True)

    def attend(states: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(states, states, states)

    with on_gpu(), LiveBytes([states]) as live:
        output = checkpoint(attend, states, use_reentrant=False) if checkpointing else attend(states)
        backward(output.sum())
    # A matrix of weights would be 8 · 4096² · 4.
    assert live.peak < 8 * 4096 * 4096


def test_autocast_copies_frozen_weights_each_time_and_trained_ones_once() -> None:
    frozen, trained, size = empty(64, 64), empty(64, 64, requires_grad=True), 64 * 64 * 2
    with LiveBytes([frozen, trained]) as live, on_gpu(torch.bfloat16) as functions:
        states = empty(64, 64, dtype=torch.bfloat16, requires_grad=True)
        for weight, kept in ((frozen, 2), (trained, 1)):
            before = live.now
            outputs = [F.linear(states, weight) for _ in range(2)]
            assert {output.dtype for output in outputs} == {torch.bfloat16}
            assert live.now - before == (2 + kept) * size
            del outputs
        functions.end_block()
        with torch.autocast("meta", enabled=False):
            assert F.linear(empty(1, 64), frozen).dtype == torch.float32
        assert F.layer_norm(states, (64,)).dtype == torch.float32


def test_a_matrix_in_fewer_bits_is_written_out_for_the_product_and_not_kept() -> None:
    weight = empty(1024, 1024, dtype=torch.bfloat16)
    states = empty(8, 1024, dtype=torch.bfloat16, requires_grad=True)
    with on_gpu(fetched=[weight]), LiveBytes([weight, states]) as live:
        output = F.linear(states, weight)
        assert live.now == output.nbytes
        assert live.peak == output.nbytes + weight.nbytes
        backward(output.sum())
    assert states.grad is not None
