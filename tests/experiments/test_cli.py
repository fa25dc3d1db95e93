"""The command line as a user meets it: help, lists, by-hand parties, and errors of one line."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks import ATTACKS
from attacks.on_outputs import OUTPUT_ATTACKS
from defenses import DEFENSES
from defenses.fitting import FITTING_DEFENSES
from defenses.on_outputs import OUTPUT_DEFENSES
from experiments import cli
from experiments.hosting.scenario import bundled_hosts
from experiments.record import read_records, write_record
from experiments.scenario import bundled, read_scenario
from parties.datasets import DATASETS, TABLES
from parties.transcript import Transcript
from split_models.tensor_spec import TensorSpec
from split_models.zoo import ZOO, build
from tests.experiments.runs import TINY, scenario_file, start_unsmash
from tests.experiments.synthetic import record, scenario
from tests.own_network import SOURCE

Unsmash = Callable[..., tuple[int, str, str]]


@pytest.fixture
def unsmash(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Unsmash:
    """Call the command line in this process; returns exit status, standard output and standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unsmash", *arguments])
        monkeypatch.setattr(signal, "signal", lambda number, handler: None)
        monkeypatch.setenv("COLUMNS", "200")
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_list_names_everything_registered(unsmash: Unsmash) -> None:
    status, out, _ = unsmash("list")
    assert status == 0
    hosted = (*TABLES, *OUTPUT_ATTACKS, *OUTPUT_DEFENSES, *FITTING_DEFENSES, *bundled_hosts())
    for name in (*ZOO, *DATASETS, *ATTACKS, *DEFENSES, *bundled(), *hosted):
        assert name in out


@pytest.mark.parametrize("name", sorted(bundled()))
def test_bundled_scenarios_are_valid(name: str) -> None:
    scenario = read_scenario(name)
    assert scenario.name == name
    assert scenario.description


def test_version_and_help(unsmash: Unsmash) -> None:
    assert re.fullmatch(r"unsmash \d+\.\d+\.\d+\n", unsmash("--version")[1])
    assert "unsmash run quickstart" in unsmash("--help")[1]


MISTAKES = {
    "no such scenario": (["run", "quickstrat"], "quickstart"),
    "unknown key": (["run", "quickstart", "--set", "data.victim=3"], "victims"),
    "unknown model": (["run", "quickstart", "--set", "model.name=vgg"], "lenet"),
    "unknown cut": (["run", "quickstart", "--set", "cuts=['relu9']"], "relu2"),
    "unknown attack": (["run", "quickstart", "--set", "attacks=[{name='magic'}]"], "shadow_model"),
    "unknown attack setting": (["run", "quickstart", "--set", "attack.shadow_model.epoch=1"], "epochs"),
    "unknown defense": (["run", "quickstart", "--set", "defenses=[{name='hope'}]"], "gaussian_noise"),
    "defense out of range": (["run", "quickstart", "--set", "defense.sigma=-1"], "sigma"),
    "defense without its setting": (["run", "quickstart", "--set", "defenses=[{name='laplace_noise'}]"], "scale"),
    "unknown data set": (["run", "quickstart", "--set", "data.name=minst"], "mnist"),
    "data directory not given": (["run", "quickstart-mnist"], "UNSMASH_DATA"),
    "more images than there are": (["run", "quickstart", "--set", "data.train=99999"], "digits"),
    "no such npz": (["run", "quickstart", "--set", "data.name=nowhere.npz"], "nowhere.npz"),
    "not an override": (["run", "quickstart", "--set", "seed"], "key=value"),
    "no run in the folder": (["report", "nowhere"], "nowhere"),
    "no such checkpoint": (["serve", "nowhere.safetensors"], "nowhere.safetensors"),
    "a file where a folder should be": (["run", "quickstart", "--out", "/dev/null/run"], "/dev/null"),
    "unknown model of cuts": (["cuts", "vgg"], "vgg11"),
    "cuts of another input": (["cuts", "vit", "--input", "3x2x2"], "at least 4x4 pixels"),
    "no input": (["cuts", "lenet", "--input", "large"], "--input like 3x32x32"),
    "input of an own network": (["cuts", "my:net"], "--input"),
    "no such module": (["cuts", "nowhere:net", "--input", "1x8x8"], "module:factory"),
    "weights that are none": (["cuts", "mlp", "--weights", "/dev/null"], "state_dict()"),
    "a plan without evidence": (["plan", "lenet", "--records", "nowhere", "--bandwidth", "1"], "no record of lenet"),
    "unknown cut in pretrain": (["pretrain", "quickstart", "--cut", "relu9", "--out", "out"], "relu2"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_the_remedy_and_status_2(
    unsmash: Unsmash, mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNSMASH_DATA", raising=False)
    arguments, remedy = MISTAKES[mistake]
    status, _, errors = unsmash(*arguments)
    assert status == 2
    assert remedy in errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert not list(tmp_path.rglob("*.safetensors"))


def test_run_writes_records_and_report_on_a_users_own_colour_pictures(unsmash: Unsmash, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    images = rng.integers(0, 120, (150, 32, 32, 3), dtype=np.uint8)
    images[np.arange(150), :, :, labels] += 100
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    out = tmp_path / "run"
    mine = ["--set", f"data.name={tmp_path / 'mine.npz'}", "--set", "transport=in-process"]
    status, text, _ = unsmash("run", scenario_file(tmp_path), "--out", str(out), *mine)
    assert status == 0
    assert "regularized_inversion" in text
    assert (out / "report.html").read_text().count("data:image/png") > 6
    records = read_records(out)
    assert [record.dataset["input_shape"] for record in records] == [[3, 32, 32]] * 2
    status, text, _ = unsmash("run", scenario_file(tmp_path), "--out", str(out), *mine)
    assert text.count("was there already") == 2


def test_parties_by_hand(tmp_path: Path, unsmash: Unsmash) -> None:
    parts = tmp_path / "parts"
    status, _, errors = unsmash("pretrain", scenario_file(tmp_path), "--cut", "relu1", "--out", str(parts))
    assert (status, errors) == (0, "")
    transcript = tmp_path / "seen.safetensors"
    serving = start_unsmash(
        "serve", str(parts / "tail.safetensors"), "--listen", "127.0.0.1:0", "--transcript", str(transcript)
    )
    assert serving.stdout
    address = re.search(r"127\.0\.0\.1:\d+", serving.stdout.readline())
    assert address
    own = ["own", str(parts / "head.safetensors"), "--server", address[0], "--data", str(parts / "victims.npz")]
    try:
        status, text, errors = unsmash(*own, "--defense", "gaussian_noise", "--set", "sigma=0.5", "--name", "alice")
        assert (status, errors) == (0, "")
        assert "6 images" in text
        port_taken = unsmash("serve", str(parts / "tail.safetensors"), "--listen", address[0])
        assert port_taken[0] == 2
        assert address[0] in port_taken[2]
        swapped = unsmash("own", str(parts / "tail.safetensors"), *own[2:])
        assert swapped[0] == 2
        assert "expected a head" in swapped[2]
        wrong_shape = unsmash(*own[:-1], _colour(tmp_path))
        assert wrong_shape[0] == 2
        assert "(1, 28, 28)" in wrong_shape[2]
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=30)
    assert serving.returncode == 0
    seen = Transcript.load(transcript)
    assert seen.activations.shape == (6, 8, 24, 24)
    assert {sighting.party for sighting in seen.sightings} == {"alice"}


def test_a_defense_that_learns_by_hand(tmp_path: Path, unsmash: Unsmash) -> None:
    shredder = 'name = "shredder"\ninverse_snr = 1.0\nmasks = 2\nepochs = 1'
    scenario = scenario_file(tmp_path, TINY.replace('name = "gaussian_noise"\nsigma = 0.5', shredder))
    for cut in ("relu1", "relu2"):
        learnt = ["--cut", cut, "--defense", "shredder", "--out", str(tmp_path / cut)]
        status, text, errors = unsmash("pretrain", scenario, *learnt)
        assert (status, errors) == (0, "")
        assert "defense.safetensors" in text
    transcript = tmp_path / "seen.safetensors"
    options = ["--listen", "127.0.0.1:0", "--transcript", str(transcript)]
    serving = start_unsmash("serve", str(tmp_path / "relu1" / "tail.safetensors"), *options)
    assert serving.stdout
    address = re.search(r"127\.0\.0\.1:\d+", serving.stdout.readline())
    assert address
    files = tmp_path / "relu1"
    own = ["own", str(files / "head.safetensors"), "--server", address[0], "--data", str(files / "victims.npz")]
    guard = ["--defense", "shredder", "--set", "inverse_snr=1.0", "--set", "masks=2"]
    try:
        for state in ([], ["--defense-state", str(tmp_path / "relu2" / "defense.safetensors")]):
            status, _, errors = unsmash(*own, *guard, *state)
            assert status == 2
            assert "expected a state with" in errors, "nothing is sent without its masks, or with those of another cut"
        assert unsmash(*own, *guard, "--defense-state", str(files / "defense.safetensors"))[0] == 0
        assert unsmash(*own)[0] == 0
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=30)
    defended, plain = Transcript.load(transcript).activations.chunk(2)
    assert (defended != plain).any(dim=(1, 2, 3)).all()
    status, _, errors = unsmash("pretrain", scenario, "--cut", "relu1", "--defense", "nopeek", "--out", str(tmp_path))
    assert status == 2
    assert "0 (none), 1 (shredder" in errors


def test_mutual_tls_by_hand(tmp_path: Path, unsmash: Unsmash) -> None:
    unsmash("pretrain", scenario_file(tmp_path), "--cut", "relu1", "--out", str(tmp_path))
    certs = tmp_path / "certs"
    assert unsmash("certs", str(certs), "--owner", "alice", "--owner", "bob")[0] == 0
    assert unsmash("certs", str(certs))[0] == 2, "certificates are never overwritten"
    proof = ["--certificate", str(certs / "server.pem"), "--key", str(certs / "server.key")]
    transcript = tmp_path / "seen.safetensors"
    listen = ["--listen", "127.0.0.1:0", "--owners-ca", str(certs / "ca.pem"), "--transcript", str(transcript)]
    serving = start_unsmash("serve", str(tmp_path / "tail.safetensors"), *listen, *proof)
    assert serving.stdout
    address = re.search(r"127\.0\.0\.1:\d+", serving.stdout.readline())
    assert address
    own = ["own", str(tmp_path / "head.safetensors"), "--server", address[0], "--data", str(tmp_path / "victims.npz")]
    alice = ["--certificate", str(certs / "alice.pem"), "--key", str(certs / "alice.key")]
    try:
        trusted = ["--server-ca", str(certs / "ca.pem"), *alice]
        assert unsmash(*own, "--name", "alice", *trusted)[0] == 0
        status, _, errors = unsmash(*own, "--name", "bob", *trusted)
        assert status == 2, "one owner cannot pass for another"
        assert "certificate" in errors
    finally:
        serving.kill()
        serving.communicate()
    assert len(Transcript.load(transcript).activations) == 6, "what a killed server had written is whole"


def test_cuts_says_what_crosses_in_a_table_and_in_json(unsmash: Unsmash, tmp_path: Path) -> None:
    status, text, errors = unsmash("cuts", "resnet18", "--input", "3x16x16", "--repeats", "1")
    assert (status, errors) == (0, "")
    assert re.search(r"block12\.relu2 +64×16×16 +65,536 +32,768 +149,824", text)
    weights = tmp_path / "weights.pt"
    torch.save(build("lenet", TensorSpec((1, 28, 28)), 4).state_dict(), weights)
    options = ["--input", "1x28x28", "--classes", "4", "--repeats", "0", "--weights", str(weights), "--json"]
    found = json.loads(unsmash("cuts", "lenet", *options)[1])["cuts"]
    (conv1,) = [cut for cut in found if cut["name"] == "conv1"]
    assert (conv1["activation"], conv1["bytes_float16"], conv1["owner_parameters"]) == ([8, 24, 24], 9216, 208)
    assert unsmash("cuts", "lenet", *options[:2], "--weights", str(weights))[0] == 2, "ten classes do not fit four"


def test_a_plan_names_what_satisfies_and_its_evidence(unsmash: Unsmash, tmp_path: Path) -> None:
    asked = scenario()
    for cut, ssim in (("relu1", 0.9), ("relu2", 0.3)):
        made = record(asked, cut, "none", {"a": [ssim] * 20}, key=f"{cut}-key")
        made.dataset["input_shape"] = [1, 28, 28]
        write_record(tmp_path, made)
    ask = ["plan", "lenet", "--records", str(tmp_path), "--bandwidth", "10", "--round-trip", "20", "--repeats", "1"]
    status, text, errors = unsmash(*ask, "--leakage", "0.5", "--accuracy", "0.9", "--latency", "500")
    assert (status, errors) == (0, "")
    assert "1 of 2 options satisfy every wish; least leaks from relu2 without a defense" in text
    assert "relu1-key" in text
    assert (tmp_path / "plan.html").read_text().count('<circle class="good"') == 1
    status, text, _ = unsmash(*ask, "--leakage", "0.1", "--json", "--out", str(tmp_path / "other.html"))
    assert status == 1
    assert {option["cut"]: option["misses"] for option in json.loads(text)} == {
        "relu1": ["leakage"],
        "relu2": ["leakage"],
    }
    option = next(option for option in json.loads(text) if option["cut"] == "relu1")
    assert (option["leakage_low"], option["leakage"], option["leakage_high"]) == pytest.approx((0.9, 0.9, 0.9))
    assert (option["seeds"], option["remark"]) == (1, "")


def test_a_users_own_network_runs_over_grpc_and_by_hand(
    unsmash: Unsmash, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("own_by_cli.py").write_text(SOURCE)
    name = "own_by_cli:Residual"
    own = ["--set", f"model.name={name}", "--set", "cuts=['act@2']", "--set", "owners.count=1"]
    status, text, errors = unsmash("run", scenario_file(tmp_path), "--out", "run", *own)
    assert (status, errors) == (0, ""), text
    first, noisy = read_records(Path("run"))
    assert first.cost.activation_shape == (4, 28, 28)
    assert all(outcome.status == "done" for made in (first, noisy) for outcome in made.attacks)
    Path("own_by_cli.py").write_text(SOURCE.replace("WIDTH = 4", "WIDTH = 4  # wide enough"))
    changed = read_scenario("tiny.toml", own[1::2])
    assert {trial.key for trial in changed.trials()}.isdisjoint({first.key, noisy.key}), "other code, other trials"
    unsmash("pretrain", "tiny.toml", "--cut", "act@2", "--out", "parts", *own)
    status, _, errors = unsmash("serve", "parts/tail.safetensors", "--listen", "127.0.0.1:0")
    assert status == 2
    assert f"--model {name}" in errors
    by_hand = ["own", "parts/head.safetensors", "--server", "127.0.0.1:1", "--data", "parts/victims.npz"]
    assert f"--model {name}" in unsmash(*by_hand)[2]
    assert "127.0.0.1:1" in unsmash(*by_hand, "--model", name)[2], "trusted, it gets as far as the missing server"


def _colour(folder: Path) -> str:
    path = folder / "colour.npz"
    np.savez(path, images=np.zeros((4, 28, 28, 3), np.uint8), labels=np.arange(4) % 2)
    return str(path)


def test_the_console_command_is_installed() -> None:
    command = Path(sys.executable).with_name("unsmash")
    if not command.exists():
        pytest.skip("unsmash is not installed beside this interpreter; run `make test`")
    shown = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("unsmash ")


def test_the_tiny_scenario_of_these_tests_is_strict(tmp_path: Path, unsmash: Unsmash) -> None:
    status, _, errors = unsmash("run", scenario_file(tmp_path, TINY.replace("victims", "victim")))
    assert status == 2
    assert "data.victim" in errors
