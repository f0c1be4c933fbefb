# SPDX-License-Identifier: Apache-2.0
# docker build -t fasterrcnn:20.1.0 . --build-arg FROM_IMAGE_NAME=<image>
# The base image needs Python 3.10 to 3.12 with its venv module.
# The default runs on CPUs, and its command is the quickstart.
ARG FROM_IMAGE_NAME=python:3.11-slim-bookworm
FROM ${FROM_IMAGE_NAME}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# OpenMP is not in slim images, and no compiler for the CPU operators. Bases without apt bring
# them.
# hadolint ignore=DL3008
RUN if command -v apt-get >/dev/null; then \
        apt-get update && \
        apt-get install -y --no-install-recommends g++ libgomp1 && \
        rm -rf /var/lib/apt/lists/*; \
    fi

# The base image's own packages (its MindSpore) count as installed.
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
COPY requirements.txt /tmp/requirements.txt
RUN python3 -m venv --system-site-packages /opt/venv && \
    /opt/venv/bin/python -m pip install --no-cache-dir -r /tmp/requirements.txt && \
    rm /tmp/requirements.txt

WORKDIR /workspace/faster_rcnn
COPY . .

# Any user may run this (docker_start.sh: the caller), and leaves files of its own only.
RUN install -d -m 1777 /workspace/runs
ENV HOME=/tmp
USER 1000:1000
WORKDIR /workspace/runs
CMD ["bash", "/workspace/faster_rcnn/scripts/run_quickstart.sh", "/workspace/runs/quickstart"]
