"""The prediction API over real sockets: what customers get, what they pay, and what bad input costs the host."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from parties.customer import Customer, prediction_hello
from parties.explanations import Explanation, ExplanationError
from parties.hosted_model import HostedModel, hosted_network, load_hosted
from parties.in_process import InProcessChannel
from parties.messages import (
    Hello,
    Kind,
    ProtocolViolation,
    QueryBudgetExhausted,
    Role,
    SessionRefused,
    TensorMessage,
    WireError,
)
from parties.model_host import HostError, ModelHost
from parties.query_ledger import LedgerError, QueryLedger
from parties.wire import control
from parties.wire.certificates import make_test_certificates
from parties.wire.client import GrpcChannel
from parties.wire.frames import encode
from parties.wire.layout import Rules
from parties.wire.security import ClientSecurity, ServerSecurity
from parties.wire.server import GrpcServer
from split_models.answers import Answers
from split_models.checkpoints import CheckpointError, Identity, save_model
from split_models.tabular.checkpoint import load_tabular, save_tabular
from split_models.tabular.decision_tree import DecisionTree
from split_models.tensor_spec import TensorSpec
from tests.output_support import COLUMNS, host_of, hosted_lenet, hosted_tabular, people, tabular_model
from tests.parties.wire.test_hostile_peers import RawPeer
from tests.support import CLASSES, image_spec, network, smooth_images

ENTRY = "from experiments.entry import main; main()"


def hello(hosted: HostedModel, customer: str = "alice") -> Hello:
    return prediction_hello(customer, hosted.name, hosted.input_spec)


@contextmanager
def serving(host: ModelHost) -> Iterator[Callable[..., Customer]]:
    """A real server; gives a callable that opens customers' sessions with it."""
    with GrpcServer(host) as server:
        opened: list[Customer] = []

        def connect(customer: str = "alice") -> Customer:
            opened.append(Customer(GrpcChannel(server.address, hello(host.model, customer))))
            return opened[-1]

        connect.address = server.address  # type: ignore[attr-defined]
        yield connect
        for customer in opened:
            customer.close()


@pytest.fixture
def images() -> Tensor:
    return smooth_images(9, image_spec("lenet", 1), seed=4)


@pytest.mark.parametrize("form", [Answers.LABEL, Answers.SCORES])
def test_remote_answers_are_the_models_own_bit_for_bit(form: Answers, images: Tensor) -> None:
    hosted = hosted_lenet()
    host = host_of(hosted, answers=form)
    expected = hosted.outputs(images)
    if form is Answers.LABEL:
        expected = expected.argmax(1)
    with serving(host) as connect, InProcessChannel(host, hello(hosted)) as near:
        assert torch.equal(connect().predict(images), expected)
        assert torch.equal(Customer(near).predict(images), expected)
    assert host.ledger.used() == {"alice": 2 * len(images)}


def test_values_of_a_regression(images: Tensor) -> None:
    hosted = hosted_tabular("linear")
    with serving(host_of(hosted)) as connect:
        told = connect().predict(people(7)[0])
    assert told.shape == (7,)
    assert torch.equal(told, hosted.outputs(people(7)[0])[:, 0])


def malformed(hosted: HostedModel, inputs: Tensor, max_batch: int) -> bytes:
    """A message as a customer sends it who checks nothing."""
    spec = TensorSpec(tuple(inputs.shape[1:]))
    message = TensorMessage(1, Kind.INPUT, (inputs,))
    return b"".join(encode(message, Rules({Kind.INPUT: (spec,)}, "float32", max_batch, 1 << 40, False)))


def bad_inputs(good: Tensor) -> dict[str, Tensor]:
    nan = good.clone()
    nan[0, 0, 0, 0] = float("nan")
    return {"another shape": good[..., :-1], "NaN": nan, "an oversized batch": good.repeat(8, 1, 1, 1)[:65]}


@pytest.mark.parametrize("what", ["another shape", "NaN", "an oversized batch"])
def test_bad_input_ends_its_session_with_a_typed_error_and_costs_nothing(what: str, images: Tensor) -> None:
    host = host_of(hosted_lenet(), max_batch=64)
    asked = []
    outputs = host.model.outputs
    object.__setattr__(host.model, "outputs", lambda inputs: asked.append(len(inputs)) or outputs(inputs))
    with serving(host) as connect:
        bystander = connect()
        peer = RawPeer(connect.address)  # type: ignore[attr-defined]
        peer.outbox.put(control.pack_hello(hello(host.model)))
        assert control.unpack(next(peer.answers)).WhichOneof("body") == "accepted"
        error = peer.answer_to(malformed(host.model, bad_inputs(images)[what], 4096))
        assert isinstance(error, ProtocolViolation)
        assert "expected" in str(error)
        assert asked == []
        assert host.ledger.used() == {}
        assert len(bystander.predict(images)) == len(images)


def test_an_input_out_of_range_is_an_error_that_is_not_counted(images: Tensor) -> None:
    host = host_of(hosted_lenet())
    with serving(host) as connect:
        customer = connect()
        with pytest.raises(WireError, match="at most 1"):
            customer.predict(images + 1)
        for ask in (customer.predict, lambda wrong: customer.explain(wrong, torch.zeros(len(wrong)).long())):
            with pytest.raises(WireError, match="finite values, got NaN"):
                ask(images * float("nan"))
        assert host.ledger.used() == {}
        assert len(customer.predict(images)) == len(images)  # the session goes on


def test_a_level_that_a_column_does_not_have_is_refused_by_name() -> None:
    host = host_of(hosted_tabular())
    rows = people(3)[0]
    with serving(host) as connect:
        customer = connect()
        for wrong in (-1.0, 3.0, 0.5):
            rows[1, 1] = wrong
            with pytest.raises(WireError, match="column 'colour': expected whole numbers from 0 to 2"):
                customer.predict(rows)
    assert host.ledger.used() == {}


def test_strangers_and_sessions_for_something_else_are_refused() -> None:
    hosted = hosted_lenet()
    with serving(host_of(hosted)) as connect:
        with pytest.raises(SessionRefused, match="expected a customer of this host, got 'mallory'"):
            connect("mallory")
        address = connect.address  # type: ignore[attr-defined]
        for opening, text in (
            (Hello("alice", Role.INFERENCE, "lenet", "", "", hosted.input_spec), "expected a prediction session"),
            (prediction_hello("alice", "other", hosted.input_spec), "expected model 'lenet', got 'other'"),
            (prediction_hello("alice", "lenet", TensorSpec((3, 9, 9))), "expected inputs"),
        ):
            with pytest.raises(SessionRefused, match=text):
                GrpcChannel(address, opening)


def test_an_exhausted_budget_answers_nothing_in_part(images: Tensor) -> None:
    host = host_of(hosted_lenet(), budget=10)
    with serving(host) as connect:
        customer = connect()
        customer.predict(images)
        with pytest.raises(QueryBudgetExhausted, match="10 inputs and 1 are left, got 2"):
            customer.predict(images[:2])
        customer.predict(images[:1])
        with pytest.raises(QueryBudgetExhausted, match="0 are left"):
            connect().predict(images[:1])  # nor does another session help
    assert host.ledger.used() == {"alice": 10}


def test_sessions_that_race_for_the_last_queries_get_no_more_than_there_are(images: Tensor) -> None:
    host = host_of(hosted_lenet(), budget=50)
    answered = []

    def spend(customer: Customer) -> None:
        for _ in range(20):
            try:
                answered.append(len(customer.predict(images[:1])))
            except QueryBudgetExhausted:
                return

    with serving(host) as connect:
        threads = [threading.Thread(target=spend, args=(connect(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(answered) == 50 == host.ledger.used()["alice"]


def test_the_ledger_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "queries.ledger"
    first = QueryLedger(path, {"alice": 10}, default_budget=3)
    first.charge("alice", 8)
    first.charge("bob", 3)
    first.close()
    again = QueryLedger(path, {"alice": 10}, default_budget=3)
    assert again.used() == {"alice": 8, "bob": 3}
    with pytest.raises(QueryBudgetExhausted):
        again.charge("alice", 3)
    with pytest.raises(QueryBudgetExhausted):
        again.charge("carol", 4)
    assert again.left("alice") == 2
    assert again.left("carol") == 3


def _charge_for_ever(path: Path, told: object) -> None:
    ledger = QueryLedger(path, {}, default_budget=10**9)
    while True:
        ledger.charge("alice", 1)
        told.send(1)  # type: ignore[attr-defined]


def test_a_killed_host_forgets_no_query_that_it_answered(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_charge_for_ever, args=(tmp_path / "queries.ledger", there), daemon=True)
    process.start()
    there.close()
    answered = sum(here.recv() for _ in range(200))
    process.kill()
    process.join()
    try:
        while True:
            answered += here.recv()
    except EOFError:
        pass
    used = QueryLedger(tmp_path / "queries.ledger", {}).used()["alice"]
    assert answered <= used <= answered + 1


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerError, match="expected a ledger"):
        QueryLedger(path, {})


@pytest.mark.parametrize("kind, shape", [(Explanation.GRADIENT, (1, 16, 16)), (Explanation.GRAD_CAM, (1, 16, 16))])
def test_explanations_are_served_and_counted(kind: Explanation, shape: tuple[int, ...], images: Tensor) -> None:
    hosted = hosted_lenet()
    host = host_of(hosted, explanation=kind)
    labels = torch.arange(len(images)) % CLASSES
    with serving(host) as connect:
        customer = connect()
        told = customer.explain(images, labels)
        assert told.shape == (len(images), *shape)
        with pytest.raises(WireError, match="expected a class from 0 to 3"):
            customer.explain(images, labels + 4)
    assert host.ledger.used() == {"alice": len(images)}
    if kind is Explanation.GRADIENT:
        inputs = images.clone().requires_grad_()
        network("lenet", 1)(inputs).gather(1, labels[:, None]).sum().backward()
        assert inputs.grad is not None
        torch.testing.assert_close(told, inputs.grad)


def test_what_is_not_offered_is_refused(images: Tensor) -> None:
    with serving(host_of(hosted_lenet())) as connect:
        with pytest.raises(WireError, match="not EXPLAIN"):
            connect().explain(images, torch.zeros(len(images), dtype=torch.int64))
        with pytest.raises(WireError, match="not MODEL_WANTED"):
            connect().model()
    with pytest.raises(HostError, match="answers with value, not with label"):
        host_of(hosted_tabular("linear"), answers=Answers.LABEL)
    with pytest.raises(HostError, match="no checkpoint"):
        host_of(hosted_lenet(), weights=True)
    with pytest.raises(ExplanationError, match="expected a network over images"):
        host_of(hosted_tabular(), explanation=Explanation.GRADIENT)


@pytest.mark.parametrize("kind", ["tree", "linear", "network over pictures"])
def test_the_model_itself_comes_over_the_api(kind: str, tmp_path: Path, images: Tensor) -> None:
    path = tmp_path / "model.safetensors"
    if kind == "network over pictures":
        save_model(path, network("lenet", 1), Identity("lenet", image_spec("lenet", 1), CLASSES, ""))
        inputs = images
    else:
        save_tabular(path, tabular_model(kind)[0])  # type: ignore[arg-type]
        inputs = people(50, seed=2)[0]
    hosted = load_hosted(path)
    host = host_of(hosted, weights=True)
    with serving(host) as connect:
        came = connect().model()
        assert torch.equal(came.outputs(inputs), connect().predict(inputs).view(len(inputs), -1))
    assert host.ledger.used() == {"alice": len(inputs)}


def test_a_checkpoint_that_was_changed_is_refused(tmp_path: Path) -> None:
    tree, _ = tabular_model()
    assert isinstance(tree, DecisionTree)
    tree.branches[3] = 0  # a circle
    save_tabular(tmp_path / "circle.safetensors", tree)
    with pytest.raises(CheckpointError, match="children follow their parents"):
        load_tabular(tmp_path / "circle.safetensors")
    content = bytearray((tmp_path / "circle.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "bit.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="digest"):
        load_hosted(tmp_path / "bit.safetensors")


def test_scikit_learn_estimators_are_hosted_without_unpickling(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LinearRegression
    from sklearn.preprocessing import FunctionTransformer
    from skops.io import dump

    rows, labels = people(80)
    forest = RandomForestClassifier(5, random_state=0).fit(rows.numpy(), labels.numpy())
    dump(forest, tmp_path / "forest.skops")
    dump(LinearRegression().fit(rows.numpy(), rows[:, 2].numpy()), tmp_path / "line.skops")
    with serving(host_of(load_hosted(tmp_path / "forest.skops"))) as connect:
        told = connect().predict(rows)
    torch.testing.assert_close(told.double(), torch.from_numpy(forest.predict_proba(rows.double().numpy())))
    with serving(host_of(load_hosted(tmp_path / "line.skops"))) as connect:
        torch.testing.assert_close(connect().predict(rows), rows[:, 2], rtol=1e-3, atol=1e-3)
    forest.estimators_[2].tree_.children_left[0] = 10**6
    dump(forest, tmp_path / "wild.skops")
    dump(FunctionTransformer(os.system), tmp_path / "code.skops")
    (tmp_path / "noise.skops").write_bytes(b"PK\x03\x04 no archive")
    for bad in ("wild.skops", "code.skops", "noise.skops", "missing.skops"):
        with pytest.raises(CheckpointError, match="expected a fitted scikit-learn estimator"):
            load_hosted(tmp_path / bad)


def test_estimators_that_cannot_answer_are_refused_by_name(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression
    from sklearn.svm import LinearSVC
    from sklearn.tree import DecisionTreeClassifier
    from skops.io import dump

    rows, labels = (tensor.numpy() for tensor in people(60))
    dump(LinearSVC().fit(rows, labels), tmp_path / "labels.skops")
    with pytest.raises(CheckpointError, match="labels: expected a classifier with predict_proba"):
        load_hosted(tmp_path / "labels.skops")
    pairs = [LinearRegression().fit(rows, rows[:, :2]), DecisionTreeClassifier().fit(rows, rows[:, :2])]
    for number, several in enumerate(pairs):
        dump(several, tmp_path / f"{number}.skops")
        with pytest.raises(CheckpointError, match=f"{number}: expected .* one output"):
            load_hosted(tmp_path / f"{number}.skops")


def test_over_tls_a_certificate_says_which_customer_it_is(tmp_path: Path, images: Tensor) -> None:
    files = make_test_certificates(tmp_path / "tls", ["alice", "mallory"], ["127.0.0.1", "localhost"]).ca.parent
    host = host_of(hosted_lenet())
    security = ServerSecurity(files / "server.pem", files / "server.key", files / "ca.pem")
    with GrpcServer(host, security=security) as server:

        def session(holder: str) -> GrpcChannel:
            mine = ClientSecurity(files / "ca.pem", files / f"{holder}.pem", files / f"{holder}.key")
            return GrpcChannel(server.address, hello(host.model), security=mine)

        with session("alice") as channel:
            assert len(Customer(channel).predict(images)) == len(images)
        with pytest.raises(SessionRefused, match="certificate issued to 'alice'"):
            session("mallory")


def test_the_command_hosts_counts_and_ends_in_order(tmp_path: Path) -> None:
    save_tabular(tmp_path / "tree.safetensors", tabular_model()[0])  # type: ignore[arg-type]
    command = [sys.executable, "-c", ENTRY, "host", str(tmp_path / "tree.safetensors")]
    options = ["--listen", "127.0.0.1:0", "--customer", "alice=60", "--defense", "rounding:step=0.5"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        address = process.stdout.readline().split(" at ")[1].split(";")[0]
        hosted = hosted_network("tree", tabular_model()[0], TensorSpec((len(COLUMNS),)), 3)
        with GrpcChannel(address, hello(hosted)) as channel:
            told = Customer(channel).predict(people(50)[0])
        assert set(told.unique().tolist()) <= {0.0, 0.5, 1.0}
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "alice: 50 queries, 10 left" in output
    assert QueryLedger(tmp_path / "tree.ledger", {}).used() == {"alice": 50}
