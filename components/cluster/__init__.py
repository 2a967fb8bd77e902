"""Kubernetes: preflight checks of a stack, schedules, stack definitions, and Kubeflow documents."""
