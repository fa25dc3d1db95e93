"""What a host and its customers do in a run, as methods that take and return plain JSON.

The same objects work inside the runner's process and behind `parties.processes.obey` in a process of their own. A
customer is told only what is its own: where the host is, what the threat model grants, and whom it attacks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from attacks.attack import AttackRefused
from attacks.on_outputs import OUTPUT_ATTACKS, make_output_attack
from attacks.oracle import BudgetExhausted, PredictionOracle
from attacks.output_attack import Access, OutputKnowledge, Victims, granted_to
from defenses.on_outputs import make_output_defense
from experiments.auxiliary import unpacked
from experiments.roles import torch_threads
from experiments.transports import Transport
from parties.customer import Customer, prediction_hello
from parties.explanations import Explanation
from parties.hosted_model import load_hosted
from parties.messages import QueryBudgetExhausted
from parties.model_host import ModelHost, Offer
from parties.query_ledger import QueryLedger
from split_models.answers import Answers
from split_models.checkpoints import load_tensors, save_tensors
from split_models.randomness import generator_for
from split_models.tabular.columns import Column
from split_models.tensor_spec import TensorSpec


class HostRole:
    """Holds the model and its output pipeline; what customers get has passed both."""

    def __init__(self, name: str, transport: Transport) -> None:
        self.name, self._transport = name, transport

    def begin(
        self,
        checkpoint: str,
        offer: dict[str, Any],
        pipeline: list[dict[str, Any]],
        budgets: dict[str, int],
        ledger: str,
        own_inputs: str,
        seed: int,
    ) -> dict[str, Any]:
        """Load the model, fit defenses that learn to the host's own inputs, and open for customers."""
        model = load_hosted(Path(checkpoint))
        defenses = [make_output_defense(step["name"], step["settings"]) for step in pipeline]
        for defense in defenses:
            if defense.learns:
                inputs = load_tensors(Path(own_inputs))[0]["inputs"]
                with torch_threads(1):
                    defense.fit(inputs, model.outputs(inputs), generator_for(seed, "fitting", defense.name))
        made = Offer(
            Answers(offer["answers"]),
            [defense.eval() for defense in defenses],
            Explanation(offer["explanation"]),
            offer["weights"],
            offer["max_batch"],
        )
        self._ledger = QueryLedger(Path(ledger), budgets)
        host = ModelHost(model, made, self._ledger, generator_for(seed, "output defenses"))
        return {"address": self._transport.serve(host), "model": model.name}

    def end(self) -> dict[str, Any]:
        """Close the host; says how much each customer has asked."""
        self._transport.close()
        used = self._ledger.used()
        self._ledger.close()
        return {"used": used}


class CustomerRole:
    """A customer of the host, honest or not."""

    def __init__(self, name: str, transport: Transport, report: Callable[[float], None]) -> None:
        self.name, self._transport, self._report = name, transport, report

    def predict(self, address: str, model: str, inputs: str, output: str, input_spec: dict[str, Any]) -> dict[str, Any]:
        """Ask about inputs in a file, and why if the host explains; write `answers` and `explanations` to `output`."""
        rows = load_tensors(Path(inputs))[0]["inputs"]
        spec = TensorSpec.from_dict(input_spec)
        with closing(self._line(self.name, address, model, spec)) as line:
            oracle = PredictionOracle(line, spec, 2 * len(rows))
            told = oracle.predict(rows)
            found = {"answers": told.answers}
            if oracle.explains and told.labels is not None:
                found["explanations"] = oracle.explain(rows, told.labels)
        save_tensors(Path(output), found)
        return {"queries": oracle.queries}

    def attack(
        self,
        customer: str,
        address: str,
        model: str,
        public: dict[str, Any],
        grants: dict[str, Any],
        attack: str,
        settings: dict[str, Any],
        victims: str,
        seed: int,
        output: str,
    ) -> dict[str, Any]:
        """Run one attack under the name of one customer and write what it finds to `output`.

        `public` is how the API is documented; `grants` maps each granted access to what it consists of.
        """
        start = time.perf_counter()
        running = make_output_attack(attack, settings)
        running.progress = self._report
        spec = TensorSpec.from_dict(public["input_spec"])
        with closing(self._line(customer, address, model, spec)) as line, torch_threads(1):
            oracle = PredictionOracle(line, spec, grants.get(Access.QUERIES, 0))
            try:
                knowledge = granted_to(_knowledge(line, oracle, public, grants), OUTPUT_ATTACKS[attack])
                running.prepare(knowledge, generator_for(seed, "attack", attack))
                found = running.invert(_victims(Path(victims), public.get("sensitive"), knowledge))
            except (AttackRefused, BudgetExhausted, QueryBudgetExhausted) as refusal:
                return {"refused": str(refusal), "queries": oracle.queries}
        save_tensors(Path(output), {"found": found})
        return {"notes": running.notes, "queries": oracle.queries, "seconds": time.perf_counter() - start}

    def _line(self, customer: str, address: str, model: str, spec: TensorSpec) -> Customer:
        return Customer(self._transport.connect(address, prediction_hello(customer, model, spec)))


def _knowledge(
    line: Customer, oracle: PredictionOracle, public: dict[str, Any], grants: dict[str, Any]
) -> OutputKnowledge:
    columns = public.get("columns")
    files = {access: load_tensors(Path(grants[access]))[0] for access in _FILES if access in grants}
    marginals = files.get(Access.MARGINALS)
    auxiliary = files.get(Access.AUXILIARY)
    return OutputKnowledge(
        input_spec=oracle.input_spec,
        classes=public["classes"],
        columns=tuple(Column(name, tuple(levels)) for name, levels in columns) if columns else None,
        oracle=oracle if Access.QUERIES in grants else None,
        explained=oracle if Access.EXPLANATIONS in grants and oracle.explains else None,
        model=line.model().network if Access.WEIGHTS in grants else None,
        marginals=tuple(marginals[str(n)] for n in range(len(marginals))) if marginals else None,
        performance=files[Access.PERFORMANCE]["performance"] if Access.PERFORMANCE in files else None,
        auxiliary=unpacked(auxiliary) if auxiliary else None,
    )


_FILES = (Access.MARGINALS, Access.PERFORMANCE, Access.AUXILIARY)


def _victims(path: Path, sensitive: int | None, knowledge: OutputKnowledge) -> Victims:
    tensors = load_tensors(path)[0]
    explanations = tensors.get("explanations") if knowledge.explained else None
    return Victims(tensors.get("labels"), tensors.get("known"), sensitive, tensors.get("outputs"), explanations)
