# syntax=docker/dockerfile:1
# The image of kruise-manager. Pin the bases by digest for a release:
#   docker build --build-arg BUILD_IMAGE=docker.io/library/python@sha256:... --build-arg RUNTIME_IMAGE=...@sha256:... .
# Both bases are Debian 12 with Python 3.11: wheels that fit one fit the other.
ARG BUILD_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/python3-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
# Where the interpreter is in RUNTIME_IMAGE; /usr/local/bin/python3 for a slim one.
ARG PYTHON=/usr/bin/python3
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The lock first: its layer lives as long as the lock does. Wheels only, so that nothing is compiled.
COPY requirements/runtime.lock requirements/runtime.lock
RUN python -m pip install --require-hashes --only-binary=:all: --no-deps --no-compile \
      --target /opt/kruise/lib -r requirements/runtime.lock
COPY kruise/ /opt/kruise/lib/kruise/
COPY LICENSE /opt/kruise/LICENSE
# The root file system is read-only at run time: byte code is made here, and never looked up against its source again.
# The launcher is isolated: neither the environment nor the working directory changes what it imports.
RUN rm -rf /opt/kruise/lib/bin \
 && find /opt/kruise/lib -name __pycache__ -type d -prune -exec rm -rf {} + \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /opt/kruise/lib /opt/kruise/lib \
 && mkdir -p /opt/kruise/bin \
 && printf '%s\n' "#!${PYTHON} -I" 'import sys' 'sys.path.insert(0, "/opt/kruise/lib")' \
      'from kruise.main import run' 'run()' > /opt/kruise/bin/kruise-manager \
 && chmod 0555 /opt/kruise/bin/kruise-manager

FROM ${RUNTIME_IMAGE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kruise-manager" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/kruise /opt/kruise
ENV PATH=/opt/kruise/bin:/usr/local/bin:/usr/bin:/bin KRUISE_COMMIT=${REVISION}
WORKDIR /
USER 65532:65532
# Metrics, probes.
EXPOSE 8443 8000 9876
ENTRYPOINT ["/opt/kruise/bin/kruise-manager"]
