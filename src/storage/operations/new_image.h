#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "storage/image.h"
#include "storage/probe.h"
#include "storage/qcow2/create.h"

namespace doppel::storage {

/// What `-o NAME=VALUE,...` says of a new image, and its other traits.
struct NewImageOptions {
  ImageFormat format = ImageFormat::Raw;
  qcow2::CreateOptions qcow2;  ///< size and preallocation count for raw too

  /// "cluster_size=64k,compression_type=zstd,..." in the words of qemu-img; the error lists what there is.
  Result<void> parse(const std::string& text);
};

/// "1G", "512k", "1048576": bytes, with a unit if there is one.
Result<std::uint64_t> parse_bytes(std::string_view text);

/// An image that is being made under another name beside its place; finish() syncs it and puts it there, replacing what
/// was. If that never happens, nothing is left of it. Refuses to replace an image that is in use.
class NewImage {
 public:
  /// An existing block device is written directly.
  static Result<NewImage> create(const std::string& path, const NewImageOptions& options,
                                 std::shared_ptr<Image> backing = nullptr);
  NewImage(NewImage&& other) noexcept;
  NewImage& operator=(NewImage&&) = delete;
  ~NewImage();

  const std::shared_ptr<Image>& image() const { return image_; }
  /// Then it has contents from before.
  bool is_block_device() const { return aside_.empty(); }
  Result<void> finish();

 private:
  NewImage() = default;
  std::string path_;
  std::string aside_;  ///< empty once there is nothing to remove
  std::shared_ptr<Image> image_;
};

}  // namespace doppel::storage
