"""Gives the features that a run has learned, in the style of scikit-learn."""

import pathlib
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from ucl_jax.data.memory import AnyImages
from ucl_jax.errors import check_argument
from ucl_jax.probes.trained_run import TrainedRun

After = int | Literal["last"]


class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The network of a trained run, as a transformer of scikit-learn: images -> features.

    It is trained already: `fit` changes nothing. It works in a pipeline, and can be cloned and pickled; the network is
    read from the run folder when it is first needed.

    Examples:
      >>> from sklearn.linear_model import LogisticRegression
      >>> from sklearn.pipeline import make_pipeline
      >>> import numpy as np
      >>> import ucl_jax
      >>> encoder = ucl_jax.Encoder("runs/lump-digits-simsiam-seed0")
      >>> rng = np.random.default_rng(0)
      >>> images, labels = rng.integers(0, 256, (20, 12, 12, 3), np.uint8), rng.integers(0, 2, 20)
      >>> encoder.transform(images).shape
      (20, 96)
      >>> make_pipeline(encoder, LogisticRegression()).fit(images, labels).predict(images).shape
      (20,)

    Attributes:
      run: the run folder.
      after: the network after so many tasks (or, in a stream, evaluations); "last" for the latest, 0 for the untrained
        one.
    """

    def __init__(self, run: str | pathlib.Path, after: After = "last"):
        self.run = run
        self.after = after

    def fit(self, images: Any = None, labels: Any = None) -> Self:
        """Returns the encoder as it is; pipelines call this."""
        return self

    def transform(self, images: AnyImages) -> np.ndarray:
        """Computes the features of images, those that the run's own probes use.

        Args:
          images: uint8 [N, H, W, 3], or a sequence of images of any sizes: paths of files, PIL images, or arrays uint8
            [H, W, 3] (RGB), [H, W, 4] (RGBA) or [H, W] (grey). Files are read as those of a folder that is trained on.
            Images are brought to the size that the network has learned as the data set of the run was, or resized where
            that had it already.

        Returns:
          float32 [N, F], where F is `8 * model.width`.

        Raises:
          ValueError: they are no such images, a file cannot be read, or `after` is a network that the run does not
            have.
          UsageError: `run` is no run folder, or its network was not kept or is damaged.
        """
        return self.opened.features_of(images, self.learned)

    @property
    def _n_features_out(self) -> int:
        """Returns the number of features, for the names that scikit-learn gives them: encoder0, encoder1, ..."""
        return self.opened.feature_size

    @property
    def opened(self) -> TrainedRun:
        """Returns the run, which is opened once for each folder."""
        if self.__dict__.get("_opened", ("", None))[0] != self.run:
            self._opened = self.run, TrainedRun(pathlib.Path(self.run))
        return self._opened[1]

    @property
    def learned(self) -> int:
        """Returns the number of tasks that the network has learned."""
        known = self.opened.afters
        check_argument(
            self.after in (*known, "last"),
            f"after is {self.after!r}; it must be 'last', or one of {', '.join(map(str, known))}",
        )
        return known[-1] if self.after == "last" else self.after

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is pickled: where the network is, and not the network."""
        return {key: value for key, value in super().__getstate__().items() if key != "_opened"}


def load(run: str | pathlib.Path, after: After = "last") -> Encoder:
    """Loads the network of a trained run at once, so that what is wrong with it is told now.

    Examples:
      >>> import ucl_jax
      >>> encoder = ucl_jax.load("runs/lump-digits-simsiam-seed0", after=1)
      >>> ucl_jax.load("runs/none")
      Traceback (most recent call last):
      ucl_jax.errors.UsageError: runs/none is no run folder: it has no config.json

    Args:
      run: the run folder.
      after: the network after so many tasks; "last" for the latest, 0 for the untrained one.

    Raises:
      ValueError: `after` is a network that the run does not have.
      UsageError: `run` is no run folder, or its network was not kept or is damaged.
    """
    encoder = Encoder(run, after)
    encoder.opened.network(encoder.learned)
    return encoder
