#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "storage/host_file.h"
#include "storage/image.h"

namespace doppel::storage {

struct OpenOptions {
  std::optional<std::string> format;  ///< by the file's contents if not given
  bool read_only = true;
  CacheMode cache = CacheMode::Writeback;
  bool lock = true;
  bool with_backing = true;  ///< open the chain of backing files too
};

/// Opens an image and its chain of backing files (those read-only).
Result<std::shared_ptr<Image>> open_image(const std::string& path, const OpenOptions& options);

}  // namespace doppel::storage
