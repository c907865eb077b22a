"""Replays on a GPU: few kernels, one captured graph, and the bits of eager steps. On the stand-in, or on a GPU."""

import gc
import logging

import numpy as np
import pytest
from op_run import STANDIN
from replay_case import NETS, Case

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import KERNELS, SYNC, cuda_status, library_backend
from nnbackend.testing import no_synchronization

pytestmark = [
    pytest.mark.skipif(not cuda_status().usable, reason="needs CUDA"),
    pytest.mark.skipif(not KERNELS or SYNC, reason="without kernels nothing is captured"),
]


def replay_of(step):
    return step._latest.replay


def losses(case, step, n):
    return [float(step(case.x, case.y)) for _ in range(n)]


@pytest.mark.parametrize("name", NETS)
def test_eager_and_captured_steps_give_the_same_bits(name):
    eager, replayed, together = Case(name), Case(name), Case(name)
    step, several = nb.compile(replayed.step), nb.compile(together.step)
    want = losses(eager, eager.step, 20)
    assert losses(replayed, step, 20) == want
    got = losses(together, several, 6) + [float(y) for y in several.several([(together.x, together.y)] * 14)]
    assert got == want
    for case in (replayed, together):
        for a, b in zip(case.weights(), eager.weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    for s in (step, several):
        assert (s.why, s.ungraphed) == (None, None)
        assert 1 < s.kernels <= eager.kernels
    assert set(replay_of(several)._graphs) == {("ieee", 14), ("ieee", 1)}


def test_unrolled_steps_count_like_others():
    """Dropout's masks and Adam's corrections go on from step to step, whatever goes together."""
    alone, mixed = Case("mlp"), Case("mlp")
    one, many = nb.compile(alone.step), nb.compile(mixed.step)
    want = losses(alone, one, 30)
    got = losses(mixed, many, 3)
    for n in (5, 1, 7, 5, 9):
        got += [float(y) for y in many.several([(mixed.x, mixed.y)] * n)]
    assert got == want


def test_each_step_has_its_own_inputs():
    case, other = Case("mlp"), Case("mlp")
    step, plain = nb.compile(case.step), nb.compile(other.step)
    rng = np.random.default_rng(1)
    rows = nb.tensor(rng.standard_normal((6 * 32, 5)).astype("float32"), device="cuda")
    apart = [nb.tensor(rows.numpy()[i : i + 32], device="cuda") for i in range(0, 192, 32)]
    beside = [nb.Tensor(rows.data[i : i + 32]) for i in range(0, 192, 32)]  # side by side in memory
    want = [float(plain(x, other.y)) for x in apart + beside]
    losses_ = [float(step(x, case.y)) for x in apart]
    losses_ += [float(y) for y in step.several([(x, case.y) for x in beside])]
    assert losses_ == want


def test_calls_of_other_kinds_run_one_by_one():
    case, other = Case("mlp"), Case("mlp")
    step, plain = nb.compile(case.step), nb.compile(other.step)
    small = nb.Tensor(case.x.data[:8]), nb.Tensor(case.y.data[:8])
    calls = [(case.x, case.y), small, (case.x, case.y), small] * 4
    want = [float(plain(*args)) for args in calls]
    assert [float(y) for y in step.several(calls)] == want
    assert step.several([]) == []


@pytest.mark.parametrize("rule", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "RAdam", "Adamax", "ASGD"])
def test_an_optimizer_is_one_kernel_over_all_parameters(rule):
    """With the gradients side by side, written there by whoever computes them."""
    net = nn.MLP([5, 16, 16, 3], "relu").init(0).to("cuda")
    optimizer = getattr(optim, rule)(net.parameters(), lr=0.01)
    x = nb.tensor(np.ones((4, 5), "float32"), device="cuda")

    @nb.compile
    def step(x):
        optimizer.zero_grad()
        loss = (net(x) * net(x)).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(8):  # RAdam changes its rule after five
        step(x)
    flat = sum(p.size for p in net.parameters())
    units = [u for u in replay_of(step).work.units if u.shape == (flat,)]
    assert [u.fused for u in units] == [False, True]
    assert units[0].node in replay_of(step).work.joined
    homes = replay_of(step).work.places.home
    assert all(n in homes for n in units[1].nodes if n in replay_of(step).work.places.results)


def test_learning_rates_and_schedules_reach_a_graph():
    def run(compiled):
        case = Case("mlp")
        schedule = optim.CosineAnnealingLR(case.optimizer, 10)
        step, found = nb.compile(case.step) if compiled else case.step, []
        for i in range(15):
            found.append(float(step(case.x, case.y)))
            schedule.step()
            if i == 9:
                case.optimizer.param_groups[0]["lr"] = 0.3
        return found

    assert run(True) == run(False)


def test_what_changes_between_steps_is_seen():
    def run(compiled):
        case = Case("images")
        step, found = nb.compile(case.step) if compiled else case.step, []
        start = {name: x.clone() for name, x in case.net.state_dict().items()}
        for i in range(24):
            found.append(float(step(case.x, case.y)))
            if i == 7:
                case.net.load_state_dict(start)
            if i == 11:
                case.net.eval()
            if i == 15:
                case.net.train()
            if i == 19:
                next(case.net.parameters()).requires_grad_(False)
        return found

    assert run(True) == run(False)


def test_gradients_are_where_eager_leaves_them():
    eager, replayed = Case("norms"), Case("norms")
    step = nb.compile(replayed.step)
    for _ in range(6):
        eager.step(eager.x, eager.y), step(replayed.x, replayed.y)
        for p, q in zip(eager.net.parameters(), replayed.net.parameters(), strict=True):
            np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())
    kept = [p.grad.numpy() for p in replayed.net.parameters()]
    next(replayed.net.parameters()).grad = None
    step(replayed.x, replayed.y)
    assert any((a != p.grad.numpy()).any() for a, p in zip(kept, replayed.net.parameters(), strict=True))


def test_gradients_that_add_up():
    def run(compiled):
        case = Case("mlp")
        case.net.eval()

        def gather(x, y):
            loss = F.cross_entropy(case.net(x), y)
            loss.backward()
            return loss.detach()

        gather = nb.compile(gather) if compiled else gather
        found = []
        for i in range(12):
            found.append(float(gather(case.x, case.y)))
            if i % 3 == 2:
                case.optimizer.step()
                case.optimizer.zero_grad()
        return found, case.weights()

    (a, v), (b, w) = run(True), run(False)
    assert a == b
    for x, y in zip(v, w, strict=True):
        np.testing.assert_array_equal(x, y)


def test_results_are_kept_unless_they_are_reused():
    net = nn.Linear(3, 2).init(0).to("cuda")
    kept, reused = nb.compile(net), nb.compile(net.forward, reuse_outputs=True)
    xs = [nb.tensor(np.full((4, 3), i, "float32"), device="cuda") for i in range(6)]
    with nb.no_grad():
        outputs = [kept(x) for x in xs]
        for x, y in zip(xs, outputs, strict=True):
            np.testing.assert_array_equal(y.numpy(), net(x).numpy())
        last = [reused(x) for x in xs][-2:]
    assert last[0].data.data.ptr == last[1].data.data.ptr


@pytest.mark.parametrize("name", ["inv", "cholesky"])
def test_what_cannot_be_captured_runs_without_a_graph_and_says_why(name, caplog):
    x = nb.tensor(np.diag([1.0, 2.0, 3.0]).astype("float32") + 0.1, device="cuda")
    step = nb.compile(lambda x: getattr(nb.linalg, name)(x @ x.mT) * 2.0)
    with caplog.at_level(logging.INFO, "nnbackend"):
        got = [step(x).numpy() for _ in range(6)]
    for y in got:
        np.testing.assert_array_equal(y, got[0])
    assert step.why is None
    assert step.ungraphed
    assert [r.message for r in caplog.records if "without a graph" in r.message] == [
        f"{step.program.name} runs without a graph: {step.ungraphed}"
    ]


def test_no_step_waits():
    case = Case("sentence")
    step = nb.compile(case.step)
    with no_synchronization():
        for _ in range(6):
            step(case.x, case.y)
        step.several([(case.x, case.y)] * 3)


def test_memory_stays_flat():
    """10,000 replays (on the stand-in 400, which take as long); device memory and the host's objects are counted."""
    net = nn.Linear(2, 2).init(0).to("cuda")
    optimizer, pool = optim.SGD(net.parameters(), lr=1e-4), library_backend("cupy").cupy.get_default_memory_pool()
    x = nb.tensor(np.ones((2, 2), "float32"), device="cuda")

    @nb.compile
    def step(x):
        optimizer.zero_grad()
        loss = net(x).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(10):
        step(x)
    private = replay_of(step)._memory.nbytes
    gc.collect()
    used, objects = pool.used_bytes(), len(gc.get_objects())
    for _ in range(400 if STANDIN else 10_000):
        step(x)
    gc.collect()
    assert step.ungraphed is None
    assert (pool.used_bytes(), replay_of(step)._memory.nbytes) == (used, private)
    assert len(gc.get_objects()) < objects + 100


def test_a_step_of_the_callers_stream():
    """A graph is launched on our stream, in turn with the caller's."""
    cupy = library_backend("cupy").cupy
    case = Case("mlp")
    step = nb.compile(case.step)
    with cupy.cuda.Stream(non_blocking=True):
        want = losses(Case("mlp"), Case("mlp").step, 1)
        assert losses(case, step, 6)[0] == want[0]


def test_each_precision_has_graphs_of_its_own():
    net = nn.Linear(8, 4).init(0).to("cuda")
    x = nb.tensor(np.random.default_rng(0).standard_normal((4, 8)).astype("float32"), device="cuda")
    step = nb.compile(net)
    with nb.no_grad():
        for _ in range(5):
            exact = step(x).numpy()
        with nb.device("cuda", precision="bfloat16").stream():
            rounded = [step(x).numpy() for _ in range(3)]
            want = net(x).numpy()
        again = step(x).numpy()
    np.testing.assert_array_equal(exact, again)
    assert (rounded[0] != exact).any()
    for y in rounded:
        np.testing.assert_array_equal(y, want)
    assert {precision for precision, _ in replay_of(step)._graphs} == {"ieee", "bfloat16"}


def test_the_text_of_a_program_is_that_of_the_cpu():
    """What is one kernel on a GPU is printed in the array functions that it stands for."""

    def text(name, device):
        case = Case(name, device)
        step = nb.compile(case.step)
        for _ in range(4):
            step(case.x, case.y)
        return str(step.program)

    for name in ("norms", "images"):
        assert text(name, "cuda") == text(name, "cpu")
