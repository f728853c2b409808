# docker build -t bridge .
# docker run --stop-timeout 15 -e BRIDGE_API_KEY=... -e BRIDGE_ADVERTISE=203.0.113.7 -p 8080:8080 -p 8080:8080/udp bridge
#
# BRIDGE_API_KEY is a must: without a key the daemon serves loopback only, and refuses to start here.
# BRIDGE_ADVERTISE is the address at which peers reach this machine; inside, only the container's own is known.
# With --build-arg EXTRAS=[cluster,local] the embedded engine hears and speaks; that is 380 MB more.
# With --build-arg COMPILED=1 what each packet goes through is compiled, which carries more calls on a core.
# The stop timeout leaves room for the drain (10 s by default). With TLS on, replace the health check.

FROM python:3.13-slim AS build
ARG EXTRAS="[cluster]"
ARG COMPILED=0
WORKDIR /src
RUN if [ "$COMPILED" = 1 ]; then apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev; fi
RUN python -m venv /opt/bridge
COPY pyproject.toml README.md LICENSE ./
COPY tools/compile.py tools/
COPY bridge bridge
RUN HATCH_BUILD_HOOK_ENABLE_CUSTOM="$COMPILED" /opt/bridge/bin/pip install --no-cache-dir --disable-pip-version-check ".${EXTRAS}"

FROM python:3.13-slim
COPY --from=build /opt/bridge /opt/bridge
ENV PATH=/opt/bridge/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8080/tcp 8080/udp
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.getenv(\"BRIDGE_PORT\") or 8080}/healthz', timeout=4)"]
ENTRYPOINT ["bridge"]
CMD ["serve", "--host", "0.0.0.0"]
