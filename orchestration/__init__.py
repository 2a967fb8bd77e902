"""All that is ZenML's or a stack's: environment, client, settings, stacks, preflight, Kubeflow."""
