"""Arrays on their way to the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zgs_ros.gpu.upload import upload

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, np.bool_])
def test_arrays_keep_shape_type_and_values(kind: type) -> None:
    values = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(kind)
    found = upload(values, CPU)
    assert found.numpy().dtype == values.dtype
    np.testing.assert_array_equal(found.numpy(), values)


def test_views_of_memory_that_may_not_be_written_are_copied() -> None:
    message = np.frombuffer(bytes(range(24)), np.uint8).reshape(4, 6)
    view = message[::-1, ::2]
    found = upload(view, CPU)
    found += 1
    np.testing.assert_array_equal(found.numpy(), view + 1)


def test_what_is_written_later_does_not_arrive() -> None:
    values = np.zeros(3)
    found = upload(values, CPU)
    values[:] = 1
    assert not found.any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_gpu_gets_the_same_many_times_over() -> None:
    arrays = [np.full((480, 640, 3), number, np.uint8) for number in range(50)]
    found = [upload(values, torch.device("cuda")) for values in arrays]
    for values, there in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(there.cpu().numpy(), values)
