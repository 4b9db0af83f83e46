#include "cli/image_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/system_error.h"
#include "cli/tool.h"
#include "control/registry.h"

namespace doppel::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kDescription = "image.json";
constexpr std::string_view kStagePrefix = ".building-";
constexpr std::size_t kLongestDescription = 65536;
constexpr int kVersion = 1;

Result<StoredImage> read_image(const std::string& directory, std::string_view name) {
  const std::string path = directory + "/" + kDescription;
  const Result<std::vector<std::byte>> bytes = read_file(path, kLongestDescription);
  if (!bytes) return bytes.error();
  const auto* const text = reinterpret_cast<const char*>(bytes->data());
  const json values = json::parse(text, text + bytes->size(), nullptr, false);
  const Error wrong{
      fmt::format("{} is not the description of an image: doppel image remove {} removes it", path, name)};
  if (!values.is_object()) return wrong;
  StoredImage image{.name = std::string(name), .directory = directory};
  try {
    if (values.at("version") != kVersion) return wrong;
    image.description = values.at("description").get<std::string>();
    image.command_line = values.at("command_line").get<std::string>();
    image.size = values.at("size").get<std::uint64_t>();
    image.created = values.at("created").get<std::int64_t>();
  } catch (const json::exception&) {
    return wrong;
  }
  return image;
}

/// With what a user's namespace made, whose owner is not the user.
Result<void> remove_tree(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (!error) return {};
  const Result<int> status = run_tool({"unshare", "--map-root-user", "--map-auto", "rm", "-rf", "--", path}, {});
  if (status && *status == 0) return {};
  return Error{fmt::format("cannot remove {}: {}", path, error.message())};
}

/// The lock of a stage that nobody builds in any more.
UniqueFd lock_stage(const std::string& path) {
  UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.valid() && ::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) directory.reset();
  return directory;
}

std::vector<std::string> entries(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

Result<void> sync_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) return system_error("cannot write " + path + " to disk");
  return {};
}

}  // namespace

std::vector<std::string> StoredImage::machine_names() const {
  std::vector<std::string> names;
  for (const std::string& file : entries(machines())) {
    if (file.ends_with(".qcow2")) names.push_back(file.substr(0, file.rfind('.')));
  }
  return names;
}

ImageStage::~ImageStage() {
  if (!directory_.empty()) static_cast<void>(remove_tree(directory_).ok());
}

Result<ImageStore> ImageStore::open() {
  const char* const data = std::getenv("XDG_DATA_HOME");
  const char* const home = std::getenv("HOME");
  fs::path directory;
  if (data != nullptr && *data == '/') {
    directory = data;
  } else if (home != nullptr && *home == '/') {
    directory = fs::path(home) / ".local/share";
  } else {
    return Error{"no place for images: set HOME or XDG_DATA_HOME"};
  }
  return ImageStore((directory / "doppel/images").string());
}

Result<std::optional<StoredImage>> ImageStore::find(std::string_view name) const {
  const std::string directory = path_of(name);
  std::error_code error;
  if (!check_image_name(name) || !fs::is_directory(directory, error)) return std::optional<StoredImage>();
  Result<StoredImage> image = read_image(directory, name);
  if (!image) return image.error();
  return std::optional<StoredImage>(*std::move(image));
}

Result<std::vector<StoredImage>> ImageStore::list() const {
  std::vector<StoredImage> images;
  for (const std::string& name : entries(directory_)) {
    Result<std::optional<StoredImage>> image = find(name);
    if (!image) return image.error();
    if (*image) images.push_back(**std::move(image));
  }
  return images;
}

Result<ImageStage> ImageStore::stage() const {
  std::error_code error;
  fs::create_directories(directory_, error);
  if (error) return Error{fmt::format("cannot create {}: {}", directory_, error.message())};
  for (const std::string& name : entries(directory_)) {
    const std::string path = path_of(name);
    if (name.starts_with(kStagePrefix) && lock_stage(path).valid()) static_cast<void>(remove_tree(path).ok());
  }
  std::string path = directory_ + "/" + std::string(kStagePrefix) + "XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return system_error("cannot create " + path);
  UniqueFd lock = lock_stage(path);
  return ImageStage(std::move(path), std::move(lock));
}

Result<void> ImageStore::publish(ImageStage stage, const StoredImage& image) const {
  const json description{{"version", kVersion},
                         {"description", image.description},
                         {"command_line", image.command_line},
                         {"size", image.size},
                         {"created", image.created}};
  const std::string text = description.dump(2) + "\n";
  const std::string& from = stage.directory();
  if (auto written = write_file_atomically(from + "/" + kDescription, std::as_bytes(std::span{text})); !written) {
    return written;
  }
  for (const char* const file : {"/vmlinuz", "/initrd", ""}) {
    if (auto synced = sync_file(from + file); !synced) return synced;
  }
  const std::string to = path_of(image.name);
  std::error_code ignored;
  const bool replaces = fs::exists(to, ignored);
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE) != 0) {
    return system_error("cannot put the image at " + to);
  }
  if (!replaces) stage.directory_.clear();
  return sync_file(directory_);
}

Result<void> ImageStore::remove(const StoredImage& image) const {
  // Out of the way first: whoever looks finds an image or none, not half of one.
  std::string aside = directory_ + "/" + std::string(kStagePrefix) + "removed-XXXXXX";
  if (::mkdtemp(aside.data()) == nullptr) return system_error("cannot create " + aside);
  if (::rename(image.directory.c_str(), aside.c_str()) != 0) return system_error("cannot remove " + image.directory);
  return remove_tree(aside);
}

Result<void> check_image_name(std::string_view name) {
  if (control::check_vm_name(name)) return {};
  return Error{
      fmt::format("\"{}\" cannot be an image's name: use letters, digits, '-', '_' and '.', at most 63, a letter or "
                  "digit first",
                  name)};
}

}  // namespace doppel::cli
