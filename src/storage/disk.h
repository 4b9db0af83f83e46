#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "storage/block_device.h"
#include "storage/host_file.h"
#include "storage/image.h"

namespace doppel::storage {

struct DiskOptions {
  std::optional<std::string> format;  ///< "raw", "qcow2"; by the file's contents if not given
  bool read_only = false;
  CacheMode cache = CacheMode::Writeback;
  enum class Aio : std::uint8_t { Auto, IoUring, Threads } aio = Aio::Auto;
  bool discard = true;   ///< pass the guest's discards on
  bool kept = true;      ///< else the image ends with the machine, and a flush has no power cut to think of
  unsigned workers = 8;  ///< threads at most, for what must wait: allocation, compressed clusters, flushes
};

/// A guest's disk on an image. Closing (destruction) drains and flushes.
class Disk : public BlockDevice {
 public:
  virtual std::shared_ptr<Image> image() const = 0;
  /// From now on requests go to `image`, which shows the same contents. Nothing may be in flight: pause the guest and
  /// drain().
  virtual void replace_image(std::shared_ptr<Image> image) = 0;
};

/// Opens an image file with all its backing files for a guest.
Result<std::unique_ptr<Disk>> open_disk(const std::string& path, const DiskOptions& options = {});

/// The same for an image that is open already.
Result<std::unique_ptr<Disk>> make_disk(std::shared_ptr<Image> image, const DiskOptions& options = {});

}  // namespace doppel::storage
