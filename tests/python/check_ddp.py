"""taut.torch under DistributedDataParallel over gloo: the gradients are plain DDP's, whatever DDP does with its buckets; what a training script
may do around it; state; wrong uses."""

import contextlib
import copy
import os
import signal
import time
import warnings
from collections import OrderedDict

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP

import taut
import taut.torch
from models import Net, equal_gradients, loss_of, same_on_all, step, twins
from ranks import case, finish, raises, run

torch.set_num_threads(1)
try:
    import torch._dynamo  # DDP of torch 2 imports it, which takes seconds: once, before ranks are forked
except ImportError:
    pass
NEW = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (2, 0)


@case(size=(2, 3))
def gradients_are_plain_ones(rank, size):
    """Many small buckets, which DDP arranges anew after the first step; layers keep their names."""
    plain, ours = twins()
    names = {n for n, p in ours.module.named_parameters()}
    for number in range(4):
        step(plain, ours, rank, number)
        equal_gradients(plain, ours)
        assert {layer.name for layer in ours.taut.comm.layers()} == names
    calls = {layer.stats()["calls"] for layer in ours.taut.comm.layers()}
    assert calls == {4} and ours.taut.stats()["steps"] == 4


class Odd(nn.Module):
    """A scalar, a parameter without elements, one of nine dimensions, and a name that is longer than a layer's may be."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.scale, self.nothing, self.nine = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.empty(0)), nn.Parameter(torch.rand((3,) + 7 * (2,) + (5,)))
        for k in "ab":
            self.add_module("x" * 150 + k, nn.Linear(50, 50))
        self.lin = [m for m in self.modules() if isinstance(m, nn.Linear)]

    def forward(self, x):
        return self.scale * (self.lin[1](torch.relu(self.lin[0](x))).pow(2).mean() + self.nothing.sum() + self.nine.pow(2).sum())


@case()
def odd_parameters(rank, size):
    for transport in ("tcp", "group"):
        plain, ours = twins(Odd, transport=transport)
        for number in range(3):
            for model in (plain, ours):
                model.zero_grad()
                model(torch.randn(4, 50, generator=torch.Generator().manual_seed(rank + number))).backward()
            equal_gradients(plain, ours)


@case()
def ways_of_ddp(rank, size):
    """Its arguments; copies; uneven inputs, whose joined ranks do not step their optimizers."""
    for args in (dict(static_graph=True), dict(static_graph=True, gradient_as_bucket_view=True), dict(gradient_as_bucket_view=True)):
        plain, ours = twins(plain_args=args)
        for number in range(4):
            for model in (plain, ours):
                model.zero_grad(set_to_none=number % 2 == 0)
                with contextlib.ExitStack() as stack:
                    if number == 2 and "static_graph" not in args:
                        stack.enter_context(model.no_sync())
                    loss_of(model, rank, number).backward()
            if number != 2 or "static_graph" in args:
                equal_gradients(plain, ours)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        again = copy.deepcopy(ours)
    assert again.taut is None and any("no hook" in str(w.message) for w in heard)
    step(plain, again, rank, 0)
    equal_gradients(plain, again)
    plain, ours = twins(codec="grid:rel=0.0001")
    begin = {n: p.detach().clone() for n, p in plain.named_parameters()}
    ours.taut.optimizer = optimizer = torch.optim.Adam(ours.parameters(), lr=1e-3)
    other = torch.optim.Adam(plain.parameters(), lr=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model, opt in ((plain, other), (ours, optimizer)):
            with model.join():
                for number in range(3 + 3 * rank):
                    model.zero_grad()
                    loss_of(model, rank, number).backward()
                    opt.step()
        def of_the_others():
            with ours.join(divide_by_initial_world_size=False):
                loss_of(ours, rank, 0).backward()
        raises(RuntimeError, "a hook's mean is that of all ranks", of_the_others)
    for (name, p), (_, q) in zip(plain.named_parameters(), ours.named_parameters()):
        assert same_on_all(q) and ((p - q) ** 2).sum() < 0.1 * ((p - begin[name]) ** 2).sum(), name


@case()
def scales_that_differ(rank, size):
    """By a bit, as where hosts sum in other orders: errors count without them, and training goes on; numbers of threads change none."""
    from taut.torch.scales import Scales
    _, ours = twins(codec="grid:rel=0.01")
    opt = ours.taut.optimizer = torch.optim.Adam(ours.parameters(), lr=1e-3)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for number in range(5):
            ours.zero_grad()
            loss_of(ours, rank, number).backward()
            assert all(same_on_all(p.grad) for p in ours.parameters())
            opt.step()
            if number == 2 and rank == 1:
                opt.state[ours.module.a.weight]["exp_avg_sq"][3, 3] *= 1 + 1e-6
    told = [str(w.message) for w in heard if "not the same on all ranks" in str(w.message)]
    assert len(told) == 1, [str(w.message) for w in heard]
    w, found = nn.Parameter(torch.zeros(1000, 1001)), []
    opt = torch.optim.Adam([w], lr=1e-3)
    w.grad = torch.randn(1000, 1001, generator=torch.Generator().manual_seed(1)) ** 7
    opt.step()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.set_default_dtype((torch.float32, torch.float64, torch.float32)[threads - 1])
        found.append(Scales(opt).of(w, (0, 1)))
    torch.set_num_threads(1)
    assert all(f.dtype == torch.float32 and torch.equal(f, found[0]) for f in found)


@case()
def codecs_lose_what_they_say(rank, size):
    for codec, most in (("quant:bits=8", 1e-3), ("grid:rel=0.01", 0.05), ("powersgd:rank=8", 1.0), ("topk:density=0.2", 0.8)):
        plain, ours = twins(codec=codec, feedback="off")
        for number in range(2):
            step(plain, ours, rank, number)
        for (name, p), (_, q) in zip(plain.named_parameters(), ours.named_parameters()):
            assert same_on_all(q.grad), name
            error = ((p.grad - q.grad) ** 2).sum() / (p.grad ** 2).sum()
            assert error <= (most if p.dim() > 1 else 1e-9), "%s, %s: %g" % (codec, name, error)
            assert p.dim() == 1 or error > 0
        assert ours.taut.stats()["bytes_sent"] < ours.taut.stats()["bytes_dense"]


@case()
def one_line(rank, size):
    """An optimizer, auto, a budget: it trains, keeps the budget, and parameters stay the same on all ranks."""
    plain, bare = DDP(Net()), Net()
    optimizers = [torch.optim.Adam(plain.parameters(), lr=3e-3)]
    ours = taut.torch.ddp(bare, optimizer=torch.optim.Adam(bare.parameters(), lr=3e-3), budget="rel=0.05", link="10mbit", replan_steps=5)
    optimizers.append(ours.taut.optimizer)
    assert isinstance(ours, DDP)
    losses = []
    for number in range(40):
        step(plain, ours, rank, number % 4)
        [o.step() for o in optimizers]
        losses.append([loss_of(m, rank, number % 4).item() for m in (plain, ours)])
    assert losses[-1][1] < 0.7 * losses[0][1] and abs(losses[-1][0] - losses[-1][1]) < 0.1 * losses[0][1], losses[-1]
    s = ours.taut.stats()
    assert s["plans"] >= 1 and 0 < s["rel_err2_metric"] and s["budget_violations"] <= 2 and s["bytes_sent"] < s["bytes_dense"], s
    for p in ours.parameters():
        assert same_on_all(p)


@case()
def scales_are_what_adam_divides_by(rank, size):
    from taut.torch.scales import Scales
    for make, moment in ((lambda p: torch.optim.AdamW(p, lr=1e-3), "exp_avg_sq"), (lambda p: torch.optim.Adam(p, lr=1e-3, amsgrad=True), "max_exp_avg_sq"),
                         (lambda p: torch.optim.RMSprop(p, lr=1e-3), "square_avg"), (lambda p: torch.optim.Adagrad(p, lr=1e-3), "sum")):
        net = Net()
        opt = make(net.parameters())
        scales = Scales(opt)
        w = net.a.weight
        assert scales.of(w, (0, 1)) is None or moment == "sum"
        for number in range(3):
            net.zero_grad()
            loss_of(net, 0, number).backward()
            opt.step()
        v = opt.state[w][moment]
        fix = 1 - 0.999 ** 3 if "exp" in moment else 1.0
        eps = opt.param_groups[0].get("eps")
        want = (v.clamp(min=(0.03 ** 2 * v.mean()).item()) / fix).sqrt() + eps
        assert torch.allclose(scales.of(w, (0, 1)), want.reshape(-1), rtol=1e-5)
        assert torch.allclose(scales.of(w, (1, 0)), want.t().reshape(-1), rtol=1e-5)
        assert Scales(opt, "row").of(w, (0, 1)).numel() == 64
    assert Scales(torch.optim.SGD(net.parameters(), lr=1, momentum=0.9)).of(w, (0, 1)) is None
    raises(ValueError, "scale='column'", lambda: Scales(opt, "column"))


@case()
def accumulation(rank, size):
    plain, ours = twins()
    for number in range(2):
        for model in (plain, ours):
            model.zero_grad()
            with model.no_sync():
                for k in range(2):
                    loss_of(model, rank, 10 * number + k).backward()
            loss_of(model, rank, 10 * number + 9).backward()
        equal_gradients(plain, ours)
    assert ours.taut.stats()["steps"] == 2


@case()
def unused_parameters(rank, size):
    """Of no rank, of one rank only, and of all, in turns."""
    plain, ours = twins(lambda: Net(unused=True), dict(find_unused_parameters=True))
    for number, use in enumerate((False, rank == 1, True, rank == 0, False)):
        step(plain, ours, rank, number, use=use)
        equal_gradients(plain, ours)
    seen = []  # DDP throws away what no rank used: steps without it take nothing of its residual
    for numbers in ((0, 2, 4), (0, 1, 2, 3, 4)):
        _, ours = twins(lambda: Net(unused=True), dict(find_unused_parameters=True), codec="topk:density=0.1", feedback="on")
        for number in numbers:
            step(ours, ours, rank, number, use=number == 0 or (number % 2 == 0 and rank == 1))
        seen.append(ours.module.unused.weight.grad)
    assert seen[0].any() and torch.equal(*seen)


@case()
def tied_weights(rank, size):
    plain, ours = twins(lambda: Net(tied=True))
    for number in range(3):
        step(plain, ours, rank, number)
        equal_gradients(plain, ours)
    assert "c.weight" not in {layer.name for layer in ours.taut.comm.layers()}


@case()
def sparse_gradients_pass_through(rank, size):
    plain, ours = twins(lambda: Net(sparse=True))
    for number in range(3):
        step(plain, ours, rank, number)
        assert ours.module.emb.weight.grad.is_sparse
        equal_gradients(plain, ours)


class Typed(nn.Module):
    """Parameters of a type; computes in float64."""

    def __init__(self, dtype):
        super().__init__()
        torch.manual_seed(3)
        self.w, self.v = (nn.Parameter((0.1 * torch.randn(*shape)).to(dtype)) for shape in ((40, 64), (40,)))

    def forward(self, x):
        return (self.v.double() @ self.w.double() @ x).pow(2).sum()


@case(size=3)
def types(rank, size):
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-9), (torch.float16, 2e-3), (torch.bfloat16, 0.01)):
        if dtype == torch.bfloat16 and not NEW:
            continue  # gloo of torch 1.13 cannot even spread such parameters
        ours, local = taut.torch.ddp(Typed(dtype), codec="none"), Typed(dtype)
        for number in range(2):
            grads = []
            for model in (ours, local):
                model.zero_grad()
                model(torch.randn(64, 5, generator=torch.Generator().manual_seed(rank + 10 * number)).double()).backward()
            for p, q in zip(ours.parameters(), local.parameters()):
                grads = [torch.empty_like(q.grad.double()) for _ in range(size)]
                dist.all_gather(grads, q.grad.double())
                mean = sum(grads) / size
                assert p.grad.dtype == dtype and ((p.grad.double() - mean).abs().max() <= tolerance * mean.abs().max()), dtype
                assert same_on_all(p.grad.float())


@case()
def complex_parameters_pass_through(rank, size):
    if not NEW:
        return  # nor complex ones

    class Rotation(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.w = nn.Parameter(torch.randn(40, 40, dtype=torch.complex64))
            self.v = nn.Parameter(torch.randn(40, 40))

        def forward(self, x):
            return (self.w @ x.to(torch.complex64)).abs().sum() + (self.v @ x).pow(2).sum()
    try:
        DDP(Rotation())
    except RuntimeError as e:  # gloo of torch 2.7 has none: plain DDP's behaviour
        raises(RuntimeError, str(e).split("\n")[0], lambda: taut.torch.ddp(Rotation(), codec="none"))
        return
    plain, ours = twins(Rotation)
    for number in range(2):
        for model in (plain, ours):
            model.zero_grad()
            model(torch.randn(40, 3, generator=torch.Generator().manual_seed(rank + number))).backward()
        equal_gradients(plain, ours, 1e-4)


@case()
def memory_formats(rank, size):
    """Gradients of convolutions in channels-last: dense, but not contiguous."""
    def make():
        torch.manual_seed(2)
        return nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 12, 3)).to(memory_format=torch.channels_last)
    for codec, tolerance in (("none", 1e-5), ("grid:rel=0.001", 0.02)):
        plain, ours = twins(make, codec=codec)
        opt = torch.optim.Adam(ours.parameters(), lr=0.0)
        ours.taut.optimizer = opt
        for number in range(3):
            for model in (plain, ours):
                model.zero_grad()
                x = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(rank + number)).to(memory_format=torch.channels_last)
                model(x).pow(2).mean().backward()
            opt.step()
            equal_gradients(plain, ours, tolerance)


@case()
def overflow_and_scaler(rank, size):
    """An Inf on one rank reaches all, and leaves nothing behind in the residuals."""
    finite = []
    for with_inf in (False, True):
        _, ours = twins(codec="topk:density=0.1", feedback="on")
        torch.manual_seed(0)
        for number in (0, 1, 2):
            if number == 1 and not with_inf:
                ours.taut.comm.step_drop()  # as if a step with its residuals had been dropped
                continue
            ours.zero_grad()
            loss = loss_of(ours, rank, number)
            (loss * (float("inf") if number == 1 and rank == 1 else 1.0)).backward()
            bad = [n for n, p in ours.named_parameters() if not torch.isfinite(p.grad).all()]
            assert (len(bad) > 0) == (number == 1), (number, bad)
            assert all(same_on_all(torch.isfinite(p.grad).view(torch.uint8)) for p in ours.parameters())
        finite.append([p.grad.clone() for p in ours.parameters()])
    for a, b in zip(*finite):
        assert torch.equal(a, b)


@case()
def grad_scaler(rank, size):
    if not NEW or not hasattr(torch, "amp") or not hasattr(torch.amp, "GradScaler"):
        return
    _, ours = twins(codec="quant:bits=8")
    scaler, opt = torch.amp.GradScaler("cpu", init_scale=2.0 ** 10, growth_interval=1000), torch.optim.SGD(ours.parameters(), lr=0.1)
    before = [p.clone() for p in ours.parameters()]
    for number in range(3):
        opt.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(ours, rank, number)
        scaler.scale(loss * (float("inf") if number == 0 and rank == 1 else 1.0)).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
        if number == 0:
            assert scaler.get_scale() == 2.0 ** 9 and all(torch.equal(p, q) for p, q in zip(ours.parameters(), before))
    assert not torch.equal(ours.module.a.weight, before[1]) and all(same_on_all(p) for p in ours.parameters())


@case()
def several_models(rank, size):
    def other():
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 20))
    pairs = [twins(), twins(other)]
    for number in range(3):
        x = torch.randn(4, 50, generator=torch.Generator().manual_seed(rank))
        step(*pairs[0], rank, number)
        for model in pairs[1]:
            model.zero_grad()
            model(x).pow(2).mean().backward()
        for pair in pairs:
            equal_gradients(*pair)
            nn.utils.clip_grad_norm_(pair[1].parameters(), 0.1)


@case()
def excluded_names(rank, size):
    _, ours = twins(codec="quant:bits=4", exclude=["out.weight"])
    step(ours, ours, rank, 0)
    codecs = {layer.name: layer.stats()["codec"] for layer in ours.taut.comm.layers()}
    assert codecs["out.weight"] == "none" and codecs["a.weight"].startswith("quant"), codecs
    raises(ValueError, "exclude has 'nobody'", lambda: taut.torch.State(Net(), exclude=["nobody"]))
    for exclude in ("out.weight", lambda name, end="out.weight": name.endswith(end), ["c.weight"]):  # of tied weights the other name
        state = taut.torch.State(Net(tied=True), codec="quant:bits=4", exclude=exclude)
        assert [layer.name for layer in state.comm.layers() if layer.stats()["codec"] == "none" and layer.stats()["elements"] > 1024] == [
            "b.weight" if exclude == ["c.weight"] else "out.weight"]


@case()
def state_by_hand(rank, size):
    """register_comm_hook; without a model parameters are numbered."""
    plain, ours = DDP(Net(), bucket_cap_mb=0.02), DDP(Net(), bucket_cap_mb=0.02)
    state = taut.torch.State(codec="none")
    raises(RuntimeError, "give State the model", lambda: state.load_state_dict({"version": 1, "steps": 0, "blobs": []}))
    ours.register_comm_hook(state, taut.torch.hook)
    for number in range(3):
        step(plain, ours, rank, number)
        equal_gradients(plain, ours)
    assert len(state.comm.layers()) == len(list(ours.parameters()))
    assert all(layer.stats()["calls"] == 3 for layer in state.comm.layers())


@case()
def subgroups(rank, size):
    groups = [dist.new_group([r]) for r in range(size)] + [dist.new_group([1, 0])]
    raises(ValueError, "not a member", lambda: taut.torch.State(Net(), process_group=groups[1 - rank]))
    alone = taut.torch.State(Net(), process_group=groups[rank], codec="none")
    assert (alone.comm.rank, alone.comm.size) == (0, 1)
    both = taut.torch.State(Net(), process_group=groups[2], codec="none")
    assert both.comm.size == 2 and both.comm.rank == dist.get_rank(groups[2])


def _train(model, opt, rank, first, last):
    for number in range(first, last):
        model.zero_grad()
        loss_of(model, rank, number).backward()
        opt.step()


@case()
def checkpoints():
    """Saved by two ranks, taken up by two (bit for bit), by three and by one."""
    import tempfile
    settings = dict(codec="topk:density=0.05", feedback="on")
    with tempfile.TemporaryDirectory() as folder:
        def save(rank, size):
            model = taut.torch.ddp(Net(), **settings)
            opt = torch.optim.SGD(model.parameters(), lr=0.1)
            _train(model, opt, rank, 0, 4)
            state = model.taut.state_dict()
            if rank == 0:
                torch.save({"model": model.module.state_dict(), "taut": state}, folder + "/c.pt")
            _train(model, opt, rank, 4, 7)
            return [p.detach().numpy().copy() for p in model.parameters()]

        def load(rank, size):
            saved = torch.load(folder + "/c.pt")
            net = Net()
            net.load_state_dict(saved["model"])
            model = taut.torch.ddp(net, **settings)
            class There:  # a tensor as torch.load(map_location="cuda") gives it
                def __init__(self, t):
                    self.cpu = lambda: t
            model.taut.load_state_dict(dict(saved["taut"], blobs=[There(b) for b in saved["taut"]["blobs"]]))
            raises(ValueError, "no state of taut", lambda: model.taut.load_state_dict({"blobs": 3}))
            _train(model, torch.optim.SGD(model.parameters(), lr=0.1), rank, 4, 7)
            assert all(same_on_all(p) for p in model.parameters())
            return [p.detach().numpy().copy() for p in model.parameters()]

        through = run(save, 2)
        assert all(a and a[0] for a in through), through
        for size in (2, 3, 1):
            again = run(load, size)
            assert all(a and a[0] for a in again), again
            if size == 2:
                assert all((a == b).all() for a, b in zip(through[0][1], again[0][1]))


@case()
def wrong_uses(rank, size):
    ours = taut.torch.ddp(Net(), codec="none")
    raises(TypeError, "must be a taut.torch.State", lambda: taut.torch.hook(None, None))
    raises(TypeError, "no setting 'bugdet'", lambda: taut.torch.State(Net(), bugdet="rel=0.1"))
    raises(ValueError, "transport='pigeon'", lambda: taut.torch.State(Net(), transport="pigeon"))
    raises(RuntimeError, "transport='mpi'", lambda: taut.torch.State(Net(), transport="mpi"))
    raises(TypeError, "optimizer is a list: must be a torch.optim.Optimizer", lambda: taut.torch.State(Net(), optimizer=[torch.optim.SGD(ours.parameters(), lr=1.0)]))
    raises(ValueError, "not wrapped yet", lambda: taut.torch.ddp(ours, ddp_args={"bucket_cap_mb": 1}))
    # a State of another model
    other = DDP(Net())
    other_state = taut.torch.State(Net(), codec="none")
    other.register_comm_hook(other_state, taut.torch.hook)
    raises(RuntimeError, "belongs to no parameter of the model", lambda: loss_of(other, rank, 0).backward())
    raises(RuntimeError, "", lambda: loss_of(other, rank, 1).backward())  # of DDP, which is in the middle of a step, or ours
    raises(RuntimeError, "an earlier step failed", other_state._begin)
    # a parameter added after the hook was set: DDP does not know it, so it stays as plain DDP leaves it
    ours.module.extra = nn.Parameter(torch.ones(50))
    (loss_of(ours, rank, 0) + (ours.module.extra * (rank + 1)).sum()).backward()
    assert ours.module.extra.grad[0] == rank + 1 and same_on_all(ours.module.a.weight.grad)
    # closed
    ours.taut.close()
    raises(RuntimeError, "has been closed", lambda: loss_of(ours, rank, 1).backward())


@case()
def group_destroyed_first(rank, size):
    plain, ours = twins()
    dist.barrier()
    dist.destroy_process_group()
    raises(RuntimeError, "init_process_group() comes first", lambda: taut.torch.State(Net()))
    try:
        loss_of(ours, rank, 0).backward()  # DDP itself may refuse; the sums are ours
    except RuntimeError:
        return
    assert ours.module.a.weight.grad is not None


@case()
def settings_that_differ(rank, size):
    e = raises(taut.Error, "rank 0 has TAUT_SEED=1, rank 1 has TAUT_SEED=2", lambda: taut.torch.State(Net(), seed=1 + rank))
    assert e.status == "TAUT_E_MISMATCH"


@case()
def another_model_on_one_rank(rank, size):
    """DDP itself compares shapes; what only names tell, we do."""
    net = Net()
    if rank == 1:
        net._modules = OrderedDict(("z" if name == "b" else name, m) for name, m in net._modules.items())
        net.forward = lambda tokens: net.out(torch.relu(net.z(net.norm(torch.relu(net.a(net.emb(tokens)))))))
    ours = taut.torch.ddp(net, codec="none", timeout_ms=20000)
    e = raises(RuntimeError, "", lambda: loss_of(ours, rank, 0).backward())
    assert "z.weight" in str(e) and "b.weight" in str(e) and "MISMATCH" in str(e), e
    assert type(ours.taut.error) is taut.Error and ours.taut.error.status == "TAUT_E_MISMATCH"


@case()
def a_rank_that_dies():
    """SIGKILL in the middle of training: the others raise, at once, with its number."""
    def body(rank, size):
        ours = taut.torch.ddp(Net(), codec="none", timeout_ms=30000)
        for number in range(2):  # after that DDP talks to nobody itself
            loss_of(ours, rank, number).backward()
        if rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        begin = time.time()
        raises(RuntimeError, "rank 2", lambda: [loss_of(ours, rank, n).backward() for n in range(3)])
        return time.time() - begin
    answers = run(body, 3)
    assert answers[2] is None and all(a and a[0] and a[1] < 10 for a in answers[:2]), answers


@case()
def data_loader_workers(rank, size):
    """Forked workers, made while the communicator is there, and gone before it."""
    from torch.utils.data import DataLoader, TensorDataset
    plain, ours = twins()
    loader = DataLoader(TensorDataset(torch.arange(64) % 50, torch.arange(64) % 50), batch_size=8, num_workers=2)
    for x, y in loader:
        for model in (plain, ours):
            model.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
        equal_gradients(plain, ours)


finish()
