"""What an optimizer divides a parameter's update by: the unit in which errors of its gradient count (taut_layer_scale)."""

import math

import torch

EVERY_STEP, PERIOD = 20, 8
FLOOR = 0.03  # least scale, relative to the root of the mean of squares, as `taut train --scale-floor`


def _of_adam(state, group):
    v = state.get("max_exp_avg_sq", state.get("exp_avg_sq"))
    steps = state.get("step", 0)
    steps = float(steps.item() if torch.is_tensor(steps) else steps)
    if v is None or steps < 1:
        return None
    betas = group.get("betas")
    return v, (1 - betas[1] ** steps) if betas else 1.0, group.get("eps", 1e-8)


def _of_others(state, group):
    v = state.get("square_avg", state.get("sum"))  # RMSprop, Adadelta; Adagrad
    if not torch.is_tensor(v):
        return None
    return v, 1.0, group.get("eps", 1e-8)


def _moment(state, group):
    if not state:
        return None
    return _of_adam(state, group) if "exp_avg_sq" in state else _of_others(state, group)


def _rounded(x):
    """x to 8 bits: sums of other orders, as other numbers of threads make them, come out the same."""
    m, e = math.frexp(x)
    return math.ldexp(round(256 * m), e - 8) if math.isfinite(x) else x


def _mean(v):
    """In double: a conversion in pieces that a cache holds is five times faster than torch's mean(dtype=)."""
    return sum(part.double().sum().item() for part in v.view(-1).split(1 << 16)) / v.numel()


class Scales:
    """Of one optimizer; None: of none."""

    def __init__(self, optimizer, per="element"):
        if per not in ("element", "row", "none"):
            raise ValueError("taut: scale=%r: must be 'element', 'row' or 'none'" % (per,))
        if optimizer is not None and not (isinstance(getattr(optimizer, "param_groups", None), list) and hasattr(optimizer, "state")):
            raise TypeError("taut: optimizer is a %s: must be a torch.optim.Optimizer, or None" % type(optimizer).__name__)
        self.optimizer, self.per = (optimizer if per != "none" else None), per
        self.groups = None
        self.eps = torch.zeros(1, dtype=torch.float32, device="cpu")

    def due(self, step):
        """Whether scales are to be set anew before this step: in the first ones always, later now and then, because a mean over a thousand steps
        (Adam's) hardly moves in a few. A function of the step's number alone, so that ranks, and a resumed run, do the same."""
        return self.per != "none" and (step < EVERY_STEP or step % PERIOD == 0)

    def _group_of(self, param):
        """Groups may be added."""
        if self.groups is None or len(self.groups) != sum(len(g["params"]) for g in self.optimizer.param_groups):
            self.groups = {p: g for g in self.optimizer.param_groups for p in g["params"]}
        return self.groups.get(param)

    @torch.no_grad()
    def of(self, param, order):
        """A flat float32 tensor for this parameter, its dimensions in `order`; None before the first step."""
        if self.optimizer is None or param.dim() < 2:
            return None
        group = self._group_of(param)
        found = _moment(self.optimizer.state.get(param), group) if group is not None else None
        if found is None or found[0].shape != param.shape:
            return None
        v, fix, eps = found
        v = v.detach().to(device="cpu", dtype=torch.float32).permute(order).contiguous()
        least = _rounded(FLOOR * FLOOR * _mean(v))
        if self.per == "row":
            v = v.reshape(v.shape[0], -1).mean(1)
        return torch.add(self.eps.fill_(eps), v.reshape(-1).clamp(min=max(least, 1e-36)).sqrt_(), alpha=fix ** -0.5)
