#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "storage/host_file.h"
#include "storage/image.h"

namespace doppel::storage {

struct OpenOptions {
  std::optional<std::string> format = {};  ///< "raw", "qcow2"; by the file's contents if not given
  bool read_only = true;
  CacheMode cache = CacheMode::Writeback;
  bool lock = true;
  bool kept = true;          ///< else the image, not what is behind it, ends with its process (HostFileOptions)
  bool with_backing = true;  ///< open the chain of backing files too, read-only; else it reads as zeros
  std::optional<std::string> write_backing = {};  ///< the file of the chain that is to be opened for writing too
  bool for_check = false;                         ///< also what is dirty or marked corrupt, as it is
};

/// Opens an image and its chain of backing files.
///
/// A backing file's format is what the image says. If it says nothing, the contents are asked, but a qcow2 image found
/// that way may not have a backing file itself: the contents could be a guest's, who would choose a file of the host.
Result<std::shared_ptr<Image>> open_image(const std::string& path, const OpenOptions& options);

/// What the backing file `name` of the image at `path` is called from here: relative names are relative to the image.
Result<std::string> resolve_backing(const std::string& path, const std::string& name);

}  // namespace doppel::storage
