# One image for all of Sickbay: `docker run IMAGE jobapi`, `worker`, `controlplane`, `up`, or any other verb of the `sickbay` command.
# A release is built with the base pinned: --build-arg PYTHON_IMAGE=python:3.13-slim-trixie@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
WORKDIR /build
RUN python -m venv /tools && python -m venv --without-pip /opt/sickbay
COPY requirements.lock pyproject.toml ./
# A mirror or a proxy is told by two optional secrets: --secret id=pip.conf,src=... --secret id=ca.pem,src=... (cert = /run/secrets/ca.pem).
# Everything is downloaded by the hashes of the lock; what runs is the part of it that pyproject.toml names, so no build tool gets in.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem \
    /tools/bin/pip download --quiet --no-deps --require-hashes --only-binary :all: --requirement requirements.lock --dest /wheels && \
    /tools/bin/python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
      print(*project['dependencies'], *project['optional-dependencies']['server'], sep='\n')" > wanted.txt && \
    /tools/bin/pip --python /opt/sickbay/bin/python install --quiet --no-index --find-links /wheels --requirement wanted.txt && \
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/sickbay/lib

FROM packages AS project
COPY README.md LICENSE ./
COPY gen gen
COPY sickbay sickbay
COPY jobapi jobapi
COPY worker worker
COPY controlplane controlplane
COPY sickbay_cli sickbay_cli
RUN /tools/bin/pip install --quiet --no-index --find-links /wheels hatchling && \
    /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /own . && \
    /tools/bin/pip --python /opt/sickbay/bin/python install --quiet --no-index --no-deps --prefix /project /own/*.whl && \
    python -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /project -p /opt/sickbay /project

FROM ${PYTHON_IMAGE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sickbay" \
      org.opencontainers.image.description="A self-healing asynchronous job system: Job API, worker and control plane" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Handlers lie in /app; the only folder that is ever written to is DATA_DIR, and that only by `up` and by a control plane without DATABASE_URL.
RUN groupadd --gid 10001 sickbay && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin sickbay && \
    install --directory /app && install --directory --owner 10001 --group 10001 --mode 0750 /var/lib/sickbay
ENV PATH=/opt/sickbay/bin:$PATH \
    DATA_DIR=/var/lib/sickbay \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
COPY --chmod=0755 deploy/image/entrypoint.sh /usr/local/bin/sickbay-entrypoint
COPY --from=packages /opt/sickbay /opt/sickbay
COPY --from=project /project /opt/sickbay
WORKDIR /app
USER 10001:10001
EXPOSE 3000 3001 3002 50051 50052 50053
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-m", "sickbay_cli.healthcheck"]
ENTRYPOINT ["sickbay-entrypoint"]
CMD ["--help"]
