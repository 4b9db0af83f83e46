#include "storage/qcow2/create.h"

#include <fmt/format.h>

#include <bit>

#include "base/system_error.h"

namespace doppel::storage::qcow2 {
namespace {

Result<void> check(const CreateOptions& options) {
  if (!std::has_single_bit(options.cluster_size) || options.cluster_size < (1U << kMinClusterBits) ||
      options.cluster_size > (1U << kMaxClusterBits)) {
    return Error{"cluster_size must be a power of two from 512 to 2M"};
  }
  if (!std::has_single_bit(options.refcount_bits) || options.refcount_bits > 64) {
    return Error{"refcount_bits must be a power of two from 1 to 64"};
  }
  if (options.version != 2 && options.version != 3) return Error{"compat must be 0.10 or 1.1"};
  if (options.extended_l2 && options.cluster_size < (1U << kMinExtendedClusterBits)) {
    return Error{"extended_l2 needs a cluster_size of 16K or more"};
  }
  const bool modern = options.extended_l2 || options.lazy_refcounts || options.refcount_bits != 16 ||
                      options.compression_type != CompressionType::Deflate;
  if (options.version == 2 && modern) {
    return Error{"extended_l2, lazy_refcounts, refcount_bits and compression_type need compat=1.1"};
  }
  if (options.preallocation != Preallocation::Off && !options.backing_file.empty()) {
    return Error{"preallocation would hide the backing file"};
  }
  return {};
}

Header header_for(const CreateOptions& options) {
  Header header;
  header.version = options.version;
  header.cluster_bits = static_cast<std::uint32_t>(std::countr_zero(options.cluster_size));
  header.refcount_order = static_cast<std::uint32_t>(std::countr_zero(options.refcount_bits));
  header.compression_type = options.compression_type;
  if (options.extended_l2) header.incompatible_features |= kExtendedL2;
  if (options.compression_type != CompressionType::Deflate) header.incompatible_features |= kCompressionType;
  if (options.lazy_refcounts) header.compatible_features |= kLazyRefcounts;
  header.backing_file = options.backing_file;
  if (!options.backing_file.empty()) header.backing_format = options.backing_format;
  header.refcount_table_offset = header.cluster_size();
  header.refcount_table_clusters = 1;
  // The L1 table comes when the image gets its size.
  header.l1_table_offset = 3 * header.cluster_size();
  return header;
}

int preallocate(Qcow2Image& image, Preallocation how) {
  if (how == Preallocation::Off) return 0;
  if (const int error = image.preallocate_metadata(); error != 0) return error;
  if (const int error = image.flush(); error != 0) return error;
  File& file = image.file();
  if (how == Preallocation::Falloc) return file.allocate(0, file.size());
  if (how == Preallocation::Full) {
    for (std::uint64_t at = 0; at < image.size();) {
      Extent extent;
      if (const int error = image.extent(at, image.size() - at, extent); error != 0) return error;
      const std::vector<std::byte> zeroes(1U << 20);
      for (std::uint64_t done = 0; done < extent.length;) {
        const std::uint64_t part = std::min<std::uint64_t>(zeroes.size(), extent.length - done);
        const int error = file.write_bytes(extent.file_offset + done, std::span(zeroes).first(part));
        if (error != 0) return error;
        done += part;
      }
      at += extent.length;
    }
  }
  return 0;
}

}  // namespace

Result<std::shared_ptr<Qcow2Image>> create(std::shared_ptr<File> file, const CreateOptions& options,
                                           std::shared_ptr<Image> backing) {
  if (auto checked = check(options); !checked) return checked.error();
  const Header header = header_for(options);
  auto start = serialise_header(header);
  if (!start) return start.error();
  start->resize(3 * header.cluster_size());
  // Cluster 1 is the refcount table, 2 its first block, which speaks of these three.
  store_be(&(*start)[header.cluster_size()], 2 * header.cluster_size());
  for (std::uint64_t cluster = 0; cluster < 3; ++cluster) {
    store_refcount(header.refcount_order, &(*start)[2 * header.cluster_size()], cluster, 1);
  }
  const auto failed = [&](int error) { return system_error("cannot write " + file->name(), error); };
  if (const int error = file->write_bytes(0, *start); error != 0) return failed(error);
  {
    // Without the backing image: a disk that grows does not show what that has behind its end, and this one begins at
    // 0.
    auto empty = Qcow2Image::open(file, nullptr, {.read_only = false});
    if (!empty) return empty.error();
    if (auto resized = (*empty)->resize(options.size); !resized) return resized.error();
  }
  auto image = Qcow2Image::open(file, std::move(backing), {.read_only = false});
  if (!image) return image.error();
  int error = preallocate(**image, options.preallocation);
  if (error == 0) error = (*image)->flush();
  if (error != 0) return failed(error);
  return image;
}

}  // namespace doppel::storage::qcow2
