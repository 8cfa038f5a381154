# One file for every service: --build-arg EXTRA=<its extra in pyproject.toml>, so that ingestion never carries xgboost.
#   docker build -f infra/service.Dockerfile --build-arg EXTRA=scoring -t weir/scoring .
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
ARG EXTRA
WORKDIR /build
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock pyproject.toml README.md infra/locked_subset.py ./
# The build backend first, from the lock: nothing is fetched that the lock does not name and hash.
RUN python locked_subset.py requirements.lock hatchling pathspec packaging pluggy trove-classifiers > backend.txt \
    && pip install --require-hashes --no-deps -r backend.txt
COPY schemas schemas
COPY services services
# What the extra needs is resolved against the lock's versions, and then installed with the lock's hashes.
RUN test -n "$EXTRA" || { echo "--build-arg EXTRA=<extra of pyproject.toml> is missing" >&2; exit 1; }
RUN python locked_subset.py --constraints requirements.lock > constraints.txt \
    && pip install --dry-run --quiet --no-build-isolation --ignore-installed --report plan.json -c constraints.txt ".[$EXTRA]" \
    && python locked_subset.py requirements.lock --plan plan.json > subset.txt \
    && pip install --require-hashes --no-deps -r subset.txt \
    && pip install --no-deps --no-build-isolation .

FROM python:${PYTHON}
# numpy and xgboost would each start a thread pool; every stage is one thread by design.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# A named volume takes over its owner from the directory that it is first mounted on.
RUN useradd --system --uid 10001 weir && install -d -o weir -g weir -m 0750 /keys /state /lookup /drift
COPY --from=build /venv /venv
COPY infra/deploy.py /opt/weir/deploy.py
USER weir
WORKDIR /state
EXPOSE 8000
