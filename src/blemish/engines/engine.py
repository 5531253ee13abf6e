"""Which engine runs a model, where, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass

from blemish.errors import InputError

ENGINES = ("openvino", "torch")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "f32", "bf16", "f16")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How a model is run; changes nothing that was fitted.

    Attributes
    ----------
    engine : {"openvino", "torch"}, default "openvino"
        "torch" needs the extra `blemish[torch]`.
    device : {"auto", "cpu", "cuda", "mps"}, default "auto"
        OpenVINO runs on the CPU. For torch, auto takes the first of CUDA, MPS and CPU that is
        there.
    precision : {"auto", "f32", "bf16", "f16"}, default "auto"
        Of the arithmetic. Auto takes bf16 where the CPU has it and the fit saw that it hardly moves
        the scores of good images (see `inference.MOST_DRIFT`), else f32. OpenVINO has no f16 on
        CPUs.
    threads : int >= 1 or None, default None
        CPU threads; None: one per core.
    streams : int >= 1, default 1
        Images, or batches, worked on at the same time: 1 for the shortest time per image, one per
        core for the most images per second.
    batch : int >= 1, default 1
        Images that are run together where many are at hand; never waits for more to come.
    """

    engine: str = "openvino"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    streams: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        choices = {"engine": ENGINES, "device": DEVICES, "precision": PRECISIONS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}, but is "
                    f"{getattr(self, name)!r}. Choose one."
                )
        for name in ("threads", "streams", "batch"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(f"{name} must be at least 1, but is {value!r}. Try 1.")
        if self.engine == "openvino" and self.device not in ("auto", "cpu"):
            raise InputError(
                f"The engine openvino runs on the CPU, but the device is {self.device}. "
                "Use the engine torch for it."
            )
        if self.engine == "openvino" and self.precision == "f16":
            raise InputError(
                "The engine openvino computes in f32 or bf16, but the precision is f16. "
                "Use bf16, or the engine torch."
            )
