"""Kubernetes: the preflight of a stack, schedules, stack definitions, Kubeflow documents."""
