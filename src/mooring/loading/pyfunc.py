"""The file MLflow executes to load a packaged model: models from code, no pickle."""

from mlflow.models import set_model

from mooring.loading.scoring import ScoringModel

set_model(ScoringModel())
