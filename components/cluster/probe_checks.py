"""What the probe saw, as checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from components.cluster.probe import Outcome
from components.cluster.target import Target
from components.core.checks import Check


def outcome_checks(target: Target, outcome: Outcome) -> Iterator[Check]:
    """A check for the image, the packages, the folders and each service; only one where the probe gave no answer."""
    answer = outcome.answer
    if answer is None:
        yield Check("probe", False, f"{outcome.image}: {outcome.problem}", outcome.remedy)
        return
    yield Check("probe", True, f"{outcome.image} runs, Python {answer['python']}, {outcome.seconds:.0f} s")
    yield from _packages(target, answer)
    code = answer["code"]
    remedy = "build the image anew with `make image`"
    if code["ok"] is None:
        yield Check("code in the image", True, "none; ZenML brings it through the artifact store", needed=False)
    else:
        yield Check("code in the image", code["ok"], code["said"], "" if code["ok"] else remedy)
    for name, seen in answer["folders"].items():
        remedy = "mount a volume there, or set fsGroup, in the pod settings of zenml.yaml"
        yield Check(f"{name} in the pod", seen["ok"], seen["said"], "" if seen["ok"] else remedy)
    yield _zenml(target, answer["zenml"])
    yield _mlflow(answer["mlflow"], answer["mlflow_named"])
    yield _artifacts(answer["artifacts"])


def _packages(target: Target, answer: Mapping[str, Any]) -> Iterator[Check]:
    missing, other = answer["missing"], answer["other"]
    if missing:
        yield Check("packages in the image", False, f"missing: {', '.join(missing)}", "take an image built with `make image`")
    elif other:
        listing = "; ".join(f"{name} {found} (here {target.versions[name]})" for name, found in sorted(other.items())[:4])
        yield Check("packages in the image", False, listing, "build the image from the same constraints.txt", needed=False)
    else:
        yield Check("packages in the image", True, f"{len(target.versions)} as here")


def _zenml(target: Target, seen: Mapping[str, Any] | None) -> Check:
    name = "ZenML from inside"
    if seen is None or seen["ok"] is None:
        if target.mounts_local_stores:
            return Check(name, True, "a database file on the node's disk")
        remedy = "start a server in the cluster (infra/kubernetes), and `zenml login` to it"
        return Check(name, False, "its records are a file on this machine, which no pod can reach", remedy)
    return _service(name, seen, "let the pods reach it: its address as seen from a pod, its Service, network policies")


def _mlflow(seen: Mapping[str, Any] | None, named: bool) -> Check:
    name = "MLflow from inside"
    remedy = "set MLFLOW_TRACKING_URI in env of the pod settings in zenml.yaml"
    if seen is None:
        return Check(name, False, "the pods know none, and a file in a pod is lost with it", remedy, needed=False)
    if seen["ok"] is None:
        return Check(name, False, f"the pods use {seen['said']} and no server", f"{remedy} to a server", needed=False)
    if seen["ok"] and not named:
        return Check(name, False, f"{seen['said']} answers, but the pods' environment does not name it", remedy, needed=False)
    return _service(name, seen, f"{remedy} to an address that pods reach; look at its Service and the network policies")


def _artifacts(seen: Mapping[str, Any] | None) -> Check:
    name = "artifact store from inside"
    if seen is None:
        return Check(name, False, "the stack names none", "register one with the stack", needed=False)
    if seen["ok"] is None:
        return Check(name, True, seen["said"], needed=False)
    return _service(name, seen, "create the bucket, fix the endpoint in the stack, or let the pods through the network policies")


def _service(name: str, seen: Mapping[str, Any], remedy: str) -> Check:
    return Check(name, bool(seen["ok"]), str(seen["said"]), "" if seen["ok"] else remedy)
