"""Adapters are found by their name, when they are asked for."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import recordio


@pytest.mark.parametrize(
    ("method", "package", "extra"), [("to_torch", "torch", "torch"), ("to_hf_iterable", "datasets", "hf")]
)
def test_a_framework_that_is_not_there_is_said(
    monkeypatch: pytest.MonkeyPatch, method: str, package: str, extra: str
) -> None:
    """Its own error, with what to install."""
    for name in list(sys.modules):
        if name.startswith("recordio.adapters."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        getattr(recordio.from_tensor_slices(np.arange(4)), method)()
    assert caught.value.__notes__ == [f"recordio: pip install 'recordio[{extra}]'"]
