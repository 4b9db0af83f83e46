#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace doppel::cli {

/// An image that `doppel image build` made: a directory of the store with a disk that is never written again, and what
/// boots it.
struct StoredImage {
  std::string name{};
  std::string directory{};

  std::string description{};   ///< "Debian 12.5 (bookworm)"
  std::string command_line{};  ///< the kernel's
  std::uint64_t size = 0;      ///< of the disk as a guest sees it, bytes
  std::int64_t created = 0;    ///< seconds since the epoch

  std::string disk() const { return directory + "/disk.qcow2"; }
  std::string kernel() const { return directory + "/vmlinuz"; }
  std::string initrd() const { return directory + "/initrd"; }
  /// Where the machines that keep what they write have their disks.
  std::string machines() const { return directory + "/machines"; }
  std::string machine_disk(std::string_view machine) const {
    return machines() + "/" + std::string(machine) + ".qcow2";
  }
  /// The names of those, in order.
  std::vector<std::string> machine_names() const;
};

/// A directory beside the images in which one is being made. It goes when this does; what a builder that was killed
/// left is found by its lock and removed by the next one.
class ImageStage {
 public:
  ImageStage(ImageStage&& other) noexcept : directory_(std::move(other.directory_)), lock_(std::move(other.lock_)) {
    other.directory_.clear();
  }
  ImageStage& operator=(ImageStage&&) = delete;
  ~ImageStage();

  const std::string& directory() const { return directory_; }

 private:
  friend class ImageStore;
  ImageStage(std::string directory, UniqueFd lock) : directory_(std::move(directory)), lock_(std::move(lock)) {}

  std::string directory_;
  UniqueFd lock_;
};

/// The user's images: $XDG_DATA_HOME/doppel/images, or ~/.local/share/doppel/images.
class ImageStore {
 public:
  static Result<ImageStore> open();
  explicit ImageStore(std::string directory) : directory_(std::move(directory)) {}

  /// Nothing: there is no image of that name. An error: there is one, and it is broken.
  Result<std::optional<StoredImage>> find(std::string_view name) const;
  Result<std::vector<StoredImage>> list() const;
  std::string path_of(std::string_view name) const { return directory_ + "/" + std::string(name); }

  Result<ImageStage> stage() const;
  /// Writes the image's description, and moves the stage to its place in one step; what was there goes. `image` needs
  /// no directory.
  Result<void> publish(ImageStage stage, const StoredImage& image) const;
  Result<void> remove(const StoredImage& image) const;

 private:
  std::string directory_;
};

/// Names become directories: letters, digits, '-', '_' and '.', a letter or digit first.
Result<void> check_image_name(std::string_view name);

}  // namespace doppel::cli
