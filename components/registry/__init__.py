"""The model registry: MLflow tracking, model versions, the promotion gate, promotion and rollback."""
