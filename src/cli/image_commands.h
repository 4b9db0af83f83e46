#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "storage/image.h"

/// What `doppel image …` does, one function for each subcommand; each returns the exit status.
namespace doppel::cli {

struct ImageOptions {
  std::string file;
  std::string second;                 ///< SIZE or TARGET
  std::string format;                 ///< -f
  std::string output_format;          ///< -O
  std::string backing;                ///< -b, -B
  std::string backing_format;         ///< -F
  std::vector<std::string> creation;  ///< -o
  std::string output = "human";       ///< --output
  bool json = false;
  bool quiet = false;
  bool compress = false;
  bool no_create = false;
  bool force_share = false;
  bool backing_chain = false;
  bool keep = false;    ///< commit -d
  bool unsafe = false;  ///< rebase -u
  bool shrink = false;
  std::string sparse_size = "4k";
  std::string repair;

  std::string suite = "bookworm";
  std::vector<std::string> include;  ///< packages, separated by commas
  std::vector<std::string> mirrors;
  std::string disk_size = "10G";
  std::string name;
  std::vector<std::string> names;  ///< to remove
  bool force = false;

  bool wants_json() const { return json || output == "json"; }
};

int image_create(const ImageOptions& options);
int image_resize(const ImageOptions& options);
int image_info(const ImageOptions& options);
int image_map(const ImageOptions& options);
int image_check(const ImageOptions& options);
int image_convert(const ImageOptions& options);
int image_commit(const ImageOptions& options);
int image_rebase(const ImageOptions& options);
int image_build(const ImageOptions& options);
int image_list(const ImageOptions& options);
int image_remove(const ImageOptions& options);

/// Tells the error and returns the status of failure.
int image_failure(const Error& error);
std::optional<std::string> if_given(const std::string& text);
/// Opens what a command was given, for reading or for writing.
Result<std::shared_ptr<storage::Image>> open_operand(const std::string& path, const ImageOptions& options,
                                                     bool read_only);

}  // namespace doppel::cli
