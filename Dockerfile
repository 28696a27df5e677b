# The server `alexnet serve` in an image of one file: a static binary for the CPU. docs/deploy.md has the lines to build and
# run it.
FROM rust:1-alpine AS build
WORKDIR /src
COPY . .
# Without the feature `cuda`: a static binary cannot load the GPU's driver.
RUN cargo build --release --locked --package alexnet-train --no-default-features \
    && strip target/release/alexnet

FROM scratch
COPY --from=build /src/target/release/alexnet /alexnet
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["/alexnet", "serve", "--ping", "--port", "8080"]
ENTRYPOINT ["/alexnet"]
CMD ["serve", "/model", "--host", "0.0.0.0", "--port", "8080"]
