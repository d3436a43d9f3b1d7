# gpuwatch in a container: one image for hub and node. `make pyz` first; then docker build -t gpuwatch . (or podman). See docs/containers.md.
# Any image with Python 3.9 to 3.13, glibc or musl, will do as base.
ARG BASE=python:3.13-slim
FROM ${BASE}

# Not root: the GPUs' devices are open to all. Whoever mounts files for it (the password) gives them to this number.
ARG UID=65532
RUN mkdir -p /var/lib/gpuwatch /opt/gpuwatch && chown ${UID}:${UID} /var/lib/gpuwatch /opt/gpuwatch && chmod 0700 /var/lib/gpuwatch
COPY --chmod=755 dist/gpuwatch.pyz /usr/local/bin/gpuwatch
USER ${UID}:${UID}

# Unpacked once, here, so that the container can be read-only.
ENV SHIV_ROOT=/opt/gpuwatch STATE_DIRECTORY=/var/lib/gpuwatch
RUN gpuwatch --help >/dev/null

VOLUME /var/lib/gpuwatch
EXPOSE 7070 7080
ENTRYPOINT ["gpuwatch"]
CMD ["--help"]
