"""From numbers to decisions: MLflow tracking, model versions, the gate, promotion and rollback."""
