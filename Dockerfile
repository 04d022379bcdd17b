# docker build -t tfo-proxy .
#
# BASE is any image with Python 3.11 or newer and its venv module; both stages stand on it, so that the virtual
# environment finds the same interpreter in the same place. Everything that is installed is pinned by hash.
# A machine with a package index of its own hands in its pip.conf:
#   docker build --secret id=pip.conf,src=$HOME/.config/pip/pip.conf .
# The same sources, locks and base make the same files, to the second: SOURCE_DATE_EPOCH is the time of all of them. Nothing in
# it depends on the machine's architecture but the wheels that pip chooses, so `docker buildx build --platform` does as well.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ARG SOURCE_DATE_EPOCH=1577836800
WORKDIR /src
RUN ["python3", "-m", "venv", "/build"]
RUN ["python3", "-m", "venv", "--without-pip", "/app"]
ENV PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 \
    PIP_ROOT_USER_ACTION=ignore

COPY requirements-build.lock requirements.lock ./
RUN --mount=type=secret,id=pip.conf \
    /build/bin/pip install --require-hashes -r requirements-build.lock \
 && /build/bin/pip --python /app/bin/python install --require-hashes -r requirements.lock

COPY . .
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /build/bin/pip --python /app/bin/python install --no-index --no-deps /wheel/*.whl \
 && /app/bin/python tools/sbom.py /app/share/tfo-proxy \
 && find /app -name direct_url.json -delete \
 && rm -f /app/bin/[Aa]ctivate* \
 && PYTHONHASHSEED=0 /app/bin/python -m compileall -q --invalidation-mode unchecked-hash /app/lib \
 && find /app -depth -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

FROM ${BASE}
LABEL org.opencontainers.image.title="tfo-proxy" \
      org.opencontainers.image.description="A TCP Fast Open forward proxy: the first bytes travel in the SYN" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /app /app
COPY config.example.yaml /etc/tfo-proxy/config.yaml
ENV PATH=/app/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["tfo-proxy", "healthcheck"]
ENTRYPOINT ["tfo-proxy"]
CMD ["run", "/etc/tfo-proxy/config.yaml"]
