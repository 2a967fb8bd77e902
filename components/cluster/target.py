"""What a run needs of a cluster, as plain data, made by the code that knows the stack and read by the checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from components.cluster.client import Access, Manifest

GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class PodPlan:
    """A pod that will be created, and the steps that it is for; ``manifest`` has ``metadata`` and ``spec`` as Kubernetes spells them."""

    steps: tuple[str, ...]
    manifest: Manifest

    @property
    def name(self) -> str:
        """The first three steps, and how many more there are."""
        shown = ", ".join(self.steps[:3])
        return shown if len(self.steps) <= 3 else f"{shown} and {len(self.steps) - 3} more"

    @property
    def spec(self) -> Manifest:
        """The pod's specification."""
        return dict(self.manifest["spec"])

    @property
    def image(self) -> str:
        """The image of the first container; empty if it is known only once it is built."""
        return str(self.spec["containers"][0].get("image") or "")


@dataclass(frozen=True)
class Services:
    """Addresses as the pods would use them; None if unknown.

    ``zenml`` is ``sqlite`` for a database file; ``mlflow`` is for pods whose environment names none; ``artifacts`` is the root of the
    artifact store, and ``endpoint`` an S3 server other than Amazon's.
    """

    zenml: str | None = None
    mlflow: str | None = None
    artifacts: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True)
class Target:
    """Where a stack runs, and with what.

    ``runner`` is the service account of the orchestrator's pod, if one is named; with ``makes_account`` ZenML creates one. ``accounts``
    are those of all pods, ``pools`` the nodes that an autoscaler would add, and ``versions`` the package versions that must be the same
    here and in the image. With ``mounts_local_stores`` the pods mount ZenML's folders on this machine, which must be the node.
    """

    stack: str
    namespace: str
    access: Access = field(default_factory=Access)
    runner: str | None = None
    makes_account: bool = False
    accounts: tuple[str, ...] = ()
    pods: tuple[PodPlan, ...] = ()
    pools: tuple[Manifest, ...] = ()
    services: Services = field(default_factory=Services)
    versions: Mapping[str, str] = field(default_factory=dict)
    mounts_local_stores: bool = False
