"""Tests linear probes of a saved network against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from tests.probed import measure
from ucl_jax.probes import PROBES
from ucl_jax.settings import PROBE_DEFAULTS


def test_linear_is_scikit_learns_ridge(subject):
    values = measure(subject, "linear", solver="ridge", fraction=1.0)
    tasks = subject.features(2, own_phase=False)
    for task, found, penalty in zip(tasks, values["task"], values["penalty_task"]):
        scaler = StandardScaler().fit(task.bank.astype(np.float64))
        labels = np.unique(task.bank_label)
        target = (task.bank_label[:, None] == labels).astype(np.float64)
        model = Ridge(penalty, solver="cholesky").fit(scaler.transform(task.bank), target)
        predicted = labels[model.predict(scaler.transform(task.query)).argmax(1)]
        assert found == pytest.approx(100 * np.mean(predicted == task.query_label), abs=2.6)  # a tie in one of 40
    assert None not in values["all"]
    assert measure(subject, "linear", 1, solver="ridge", fraction=1.0)["all"][1] is None


def test_linear_has_a_case_for_each_solver_and_fraction(subject):
    cases = PROBES["linear"].cases(subject, PROBE_DEFAULTS["linear"])
    assert [(case["solver"], case["fraction"]) for case in cases] == [
        (solver, fraction) for solver in ("ridge", "sgd") for fraction in (0.01, 0.1, 1.0)
    ]
    assert "epochs" not in cases[0]
    assert "penalties" not in cases[-1]
