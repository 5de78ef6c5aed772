# The commands of VLM4Rec Search and of SQLMesh in an image, without torch. Mount a project (`vlm4rec init`) at /shop:
#   docker build --tag vlm4rec .
#   docker run --rm --volume "$PWD:/shop" --user "$(id -u):$(id -g)" vlm4rec sqlmesh plan --auto-apply --no-prompts
# Extras: docker build --build-arg EXTRAS='[models]' --tag vlm4rec .
FROM python:3.11-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
ARG EXTRAS=""
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /tmp/wheels
# Modules are compiled here: the user of the commands cannot write beside them, and each start would compile them anew.
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "$(echo /tmp/wheels/*.whl)${EXTRAS}" \
    && useradd --create-home --uid 10001 vlm4rec \
    && install --directory --owner vlm4rec /shop
USER 10001
WORKDIR /shop
# The sentence encoder's weights are kept in .cache of the project.
ENV PYTHONUNBUFFERED=1 HOME=/shop
CMD ["vlm4rec", "--help"]
