"""Will the claims that pods mount be bound, and are the storage classes there that they name."""

from __future__ import annotations

from collections.abc import Iterator

from components.cluster.client import Manifest
from components.cluster.inventory import Inventory
from components.cluster.target import Target
from components.core.checks import Check

_DEFAULT = "storageclass.kubernetes.io/is-default-class"


def unseen(name: str, what: str) -> Check:
    """Advice where something may not be looked at."""
    return Check(name, False, f"not looked at: {what} may not be listed", f"ask for the right to list {what}", needed=False)


def check_volumes(target: Target, found: Inventory) -> Iterator[Check]:
    """A check for each claim and each storage class that a pod's volumes name."""
    volumes = [volume for plan in target.pods for volume in plan.spec.get("volumes") or []]
    claims = sorted({volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume})
    templates = [volume["ephemeral"]["volumeClaimTemplate"]["spec"] for volume in volumes if "ephemeral" in volume]
    if claims and found.claims is None:
        yield unseen("volumes", "persistentvolumeclaims")
    elif found.claims is not None:
        known = {claim["metadata"]["name"]: claim for claim in found.claims}
        for name in claims:
            yield claim_check(name, known.get(name), target.namespace, found.classes)
    for name in sorted({template.get("storageClassName") or "" for template in templates}):
        yield _class_check(name, found.classes)


def claim_check(name: str, claim: Manifest | None, namespace: str, classes: list[Manifest] | None) -> Check:
    """Whether a claim is bound, or will be as soon as a pod mounts it."""
    title = f"volume {name}"
    if claim is None:
        return Check(title, False, "there is no such claim", "apply infra/kubernetes, or create the PersistentVolumeClaim")
    phase = (claim.get("status") or {}).get("phase", "Pending")
    named = (claim.get("spec") or {}).get("storageClassName")
    if phase == "Bound":
        return Check(title, True, f"bound{f', storage class {named}' if named else ''}")
    if phase == "Lost":
        return Check(title, False, "its volume is lost", "restore the volume, or delete the claim and create it anew")
    described = f"kubectl -n {namespace} describe pvc {name}"
    if not named:
        remedy = f"mark a storage class as default, name one in the claim, or create a volume for it; {described}"
        return Check(title, False, "waits for a volume, and names no storage class", remedy)
    if classes is None:
        return Check(title, False, f"waits for a volume of class {named}, which may not be looked up", described, needed=False)
    known = next((one for one in classes if one["metadata"]["name"] == named), None)
    if known is None:
        return Check(title, False, f"its storage class {named} is not there", f"create the claim anew with one of: {_names(classes)}")
    if known.get("volumeBindingMode") == "WaitForFirstConsumer":
        return Check(title, True, f"will be bound to the first pod's node, storage class {named}")
    return Check(title, False, f"waits for a volume of class {named}", f"look at why it is not provisioned: {described}")


def _class_check(name: str, classes: list[Manifest] | None) -> Check:
    title = f"storage class {name or '(default)'}"
    if classes is None:
        return unseen(title, "storage classes")
    if name:
        ok = any(one["metadata"]["name"] == name for one in classes)
    else:
        ok = any((one["metadata"].get("annotations") or {}).get(_DEFAULT) == "true" for one in classes)
    return Check(title, ok, "there" if ok else "not there", "" if ok else f"name one of these in zenml.yaml: {_names(classes)}")


def _names(classes: list[Manifest]) -> str:
    return ", ".join(one["metadata"]["name"] for one in classes) or "(the cluster has none)"
