#include "storage/operations/merge.h"

#include <algorithm>
#include <vector>

#include "base/system_error.h"
#include "storage/operations/chain_map.h"
#include "storage/raw_image.h"

namespace doppel::storage {
namespace {

constexpr std::uint64_t kStep = 2U << 20;

Error cannot(const char* what, const Image& image, int error) {
  return system_error(std::string("cannot ") + what + " " + image.name(), error);
}

int read_into(Image& image, std::uint64_t offset, std::span<std::byte> bytes) {
  const iovec piece = as_iovec(bytes);
  return image.read(offset, {&piece, 1});
}

int write_from(Image& image, std::uint64_t offset, std::span<const std::byte> bytes) {
  const iovec piece = as_iovec(bytes);
  return image.write(offset, {&piece, 1});
}

/// Reads [offset, ...) of `image`, zeros past its end or without an image.
int read_or_zero(Image* image, std::uint64_t offset, std::span<std::byte> bytes) {
  const std::uint64_t there =
      image != nullptr && offset < image->size() ? std::min<std::uint64_t>(bytes.size(), image->size() - offset) : 0;
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(there), bytes.end(), std::byte{0});
  return there != 0 ? read_into(*image, offset, bytes.first(there)) : 0;
}

/// The run at `offset` that the images of the chain above `base` agree on: do they say anything, and what kind?
Result<Extent> extent_above(Image& top, const Image& base, std::uint64_t offset, std::uint64_t length) {
  Image* image = &top;
  std::shared_ptr<Image> kept;
  for (;;) {
    Extent extent;
    if (const int error = image->extent(offset, length, extent); error != 0) {
      return cannot("read the tables of", *image, error);
    }
    std::shared_ptr<Image> backing = image->backing();
    if (extent.kind != Extent::Kind::Unallocated || !backing || backing.get() == &base) return extent;
    if (offset >= backing->size()) {
      // The end of a shorter image in between: zeros, whatever is below.
      extent.kind = Extent::Kind::Zero;
      return extent;
    }
    length = std::min(extent.length, backing->size() - offset);
    kept = std::move(backing);
    image = kept.get();
  }
}

}  // namespace

Result<void> resize_image(Image& image, std::uint64_t size) {
  if (auto* const qcow = dynamic_cast<qcow2::Qcow2Image*>(&image); qcow != nullptr) return qcow->resize(size);
  auto& raw = dynamic_cast<RawImage&>(image);
  if (const int error = raw.resize(size); error != 0) return cannot("resize", image, error);
  return {};
}

Result<void> merge_into(Image& top, Image& base, const Progress& progress) {
  if (base.size() < top.size()) {
    if (auto resized = resize_image(base, top.size()); !resized) return resized;
  }
  const std::uint64_t size = top.size();
  std::vector<std::byte> buffer(kStep);
  for (std::uint64_t at = 0; at < size;) {
    if (progress) progress(at, size);
    const auto extent = extent_above(top, base, at, size - at);
    if (!extent) return extent.error();
    std::uint64_t length = extent->length;
    if (extent->kind == Extent::Kind::Zero) {
      if (const int error = base.write_zeroes(at, length, true); error != 0) return cannot("write", base, error);
    } else if (extent->kind != Extent::Kind::Unallocated) {
      length = std::min(length, kStep);
      const auto bytes = std::span(buffer).first(length);
      if (const int error = read_into(top, at, bytes); error != 0) return cannot("read", top, error);
      if (const int error = write_from(base, at, bytes); error != 0) return cannot("write", base, error);
    }
    at += length;
  }
  if (const int error = base.flush(); error != 0) return cannot("write", base, error);
  if (progress) progress(size, size);
  return {};
}

Result<void> make_empty(qcow2::Qcow2Image& top, const Progress& progress) {
  const std::uint64_t size = top.size();
  constexpr std::uint64_t kUnmapStep = std::uint64_t{256} << 20;
  for (std::uint64_t at = 0; at < size; at += kUnmapStep) {
    if (progress) progress(at, size);
    if (const int error = top.unmap(at, std::min(kUnmapStep, size - at)); error != 0)
      return cannot("write", top, error);
  }
  if (const int error = top.flush(); error != 0) return cannot("write", top, error);
  return {};
}

Result<void> prepare_rebase(qcow2::Qcow2Image& top, const std::shared_ptr<Image>& new_backing,
                            const Progress& progress) {
  const std::shared_ptr<Image> old_backing = top.backing();
  const std::uint64_t size = top.size();
  // Whole clusters are compared: writing part of one would copy the rest of it from the old backing image anyway.
  const std::uint64_t step = std::max(kStep, top.cluster_size());
  std::vector<std::byte> before(step);
  std::vector<std::byte> after(step);
  for (std::uint64_t at = 0; at < size;) {
    if (progress) progress(at, size);
    Extent extent;
    const std::uint64_t wanted = std::min(size - at, step - at % step);
    if (const int error = top.extent(at, wanted, extent); error != 0) return cannot("read the tables of", top, error);
    const std::uint64_t length = extent.length;
    if (extent.kind == Extent::Kind::Unallocated) {
      const auto old_bytes = std::span(before).first(length);
      const auto new_bytes = std::span(after).first(length);
      if (const int error = read_or_zero(old_backing.get(), at, old_bytes); error != 0) {
        return cannot("read", *old_backing, error);
      }
      if (const int error = read_or_zero(new_backing.get(), at, new_bytes); error != 0) {
        return cannot("read", *new_backing, error);
      }
      for (std::uint64_t part = 0; part < length;) {
        const std::uint64_t part_length =
            std::min(top.cluster_size() - (at + part) % top.cluster_size(), length - part);
        const auto bytes = old_bytes.subspan(part, part_length);
        if (!std::ranges::equal(bytes, new_bytes.subspan(part, part_length))) {
          const int error =
              is_zero(bytes) ? top.write_zeroes(at + part, part_length, true) : write_from(top, at + part, bytes);
          if (error != 0) return cannot("write", top, error);
        }
        part += part_length;
      }
    }
    at += length;
  }
  if (const int error = top.flush(); error != 0) return cannot("write", top, error);
  if (progress) progress(size, size);
  return {};
}

}  // namespace doppel::storage
