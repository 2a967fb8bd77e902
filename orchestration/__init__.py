"""Everything specific to ZenML and its stacks: environment, client, settings, stacks, preflight, Kubeflow."""
