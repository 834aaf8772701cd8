# nisf for the processor, with its models, for a user without rights:
#
#   docker build --tag nisf .
#   docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD:/data" nisf segment scan.nii.gz -o out

FROM python:3.12-slim AS build
WORKDIR /source
# The commit that `nisf --version` names: docker build --build-arg COMMIT="$(git rev-parse --short=12 HEAD)"
ARG COMMIT=""
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src ./src
RUN if [ -n "$COMMIT" ]; then echo "$COMMIT" > src/nisf/outputs/commit.txt; fi \
    && python -m venv /opt/nisf \
    && /opt/nisf/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
       ".[dicom,dicom-seg,itk,mesh,view]"

FROM python:3.12-slim
LABEL org.opencontainers.image.title="nisf" \
      org.opencontainers.image.description="Continuous segmentation of medical image volumes; not a medical device" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-NC-SA-4.0 AND CC-BY-SA-4.0"
COPY --from=build /opt/nisf /opt/nisf
ENV PATH=/opt/nisf/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --create-home --uid 10001 nisf
USER 10001
WORKDIR /data
ENTRYPOINT ["nisf"]
CMD ["--help"]
