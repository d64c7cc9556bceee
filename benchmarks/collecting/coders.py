"""The coder both sides encode with: the default one, any other, or a random one."""

from __future__ import annotations

from pathlib import Path

import torch
from collecting.windows import full_windows
from safetensors.torch import save_file

from glossator.sae import SparseCoder
from glossator.subject import Subject

SITE = "layers.14.resid_post"
LATENTS = 4608
ACTIVE = 32
"""Latents that fire on a token, on average."""
_CALIBRATION, _CTX = 2048, 128


def coder_for(spec: str, subject: Subject) -> SparseCoder:
    """The coder called `spec`, the same for equal arguments.

    Args:
        spec: what `load_coder` takes, or `random`: random weights that fire as often as trained.
        subject: the model it will read.
    """
    if spec == "random":
        return _random(subject)
    from glossator.sae import load_coder

    return load_coder(spec, device=subject.device, d_in=subject.d_model)


def site_of(coder: SparseCoder) -> str:
    """Where the coder reads."""
    return coder.site or SITE


def save_for_peer(coder: SparseCoder, file: Path) -> None:
    """The coder's weights, float32, under the names of the peer's own JumpReLU class.

    Raises:
        SystemExit: for a coder that the class cannot express.
    """
    if coder.activation != "jumprelu" or coder.normalisation != "none":
        raise SystemExit("the peer has a class for JumpReLU coders without normalisation only")
    bias = coder.b_enc.float()
    if coder.apply_b_dec_to_input:
        bias = bias - coder.b_dec.float() @ coder.W_enc.float()
    assert coder.threshold is not None
    weights = {
        "W_enc": coder.W_enc.float(),  # (d_in, d_sae)
        "b_enc": bias,
        "W_dec": coder.W_dec.float(),  # (d_sae, d_out)
        "b_dec": coder.b_dec.float(),
        "threshold": coder.threshold.float().clamp(min=0),
    }
    save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, file)


def _random(subject: Subject) -> SparseCoder:
    site = SITE if subject.n_layers > 14 else f"layers.{subject.n_layers // 2}.resid_post"
    generator = torch.Generator().manual_seed(0)
    encoder = torch.randn(subject.d_model, LATENTS, generator=generator)
    encoder = (encoder / encoder.norm(dim=0)).to(subject.device)  # (d_model, d_sae)
    windows = full_windows(subject, _CTX, _CALIBRATION, _CALIBRATION // _CTX)
    acts = subject.read(windows.token_ids, site)[site].reshape(-1, subject.d_model).float()
    pre = acts @ encoder  # (n_tokens, d_sae)
    threshold = torch.quantile(pre, 1 - ACTIVE / LATENTS, dim=0).clamp(min=0)
    return SparseCoder(
        name="random",
        architecture="jumprelu",
        activation="jumprelu",
        W_enc=encoder,
        b_enc=torch.zeros(LATENTS, device=encoder.device),
        W_dec=encoder.T.contiguous(),
        b_dec=torch.zeros(subject.d_model, device=encoder.device),
        threshold=threshold,
        site=site,
    )
