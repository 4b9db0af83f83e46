#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "storage/file.h"
#include "storage/qcow2/image.h"

namespace doppel::storage::qcow2 {

enum class Preallocation : std::uint8_t {
  Off,
  Metadata,  ///< tables
  Falloc,    ///< and space reserved
  Full,      ///< and zeros written
};

struct CreateOptions {
  std::uint64_t size = 0;  ///< of the disk, a multiple of 512
  std::uint64_t cluster_size = 65536;
  std::uint32_t version = 3;
  std::uint32_t refcount_bits = 16;
  bool lazy_refcounts = false;
  bool extended_l2 = false;
  CompressionType compression_type = CompressionType::Deflate;
  Preallocation preallocation = Preallocation::Off;
  std::string backing_file;
  std::optional<std::string> backing_format;
};

/// Makes an image in an empty file and opens it for writing. `backing` is what backing_file names, if it is to be read.
Result<std::shared_ptr<Qcow2Image>> create(std::shared_ptr<File> file, const CreateOptions& options,
                                           std::shared_ptr<Image> backing = nullptr);

}  // namespace doppel::storage::qcow2
