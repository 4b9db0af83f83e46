#pragma once

#include <string>
#include <vector>

/// What `doppel snapshot …` does, one function for each subcommand; each returns the exit status.
namespace doppel::cli {

struct SnapshotOptions {
  std::string machine;
  std::string tag;
  std::vector<std::string> tags;
  std::string file;
  std::string reference;  ///< what an imported snapshot is to be called
  std::string engine = "auto";
  unsigned number = 1;
  bool refill = false;
  bool full = false;
  bool compress = false;
  bool warm = false;
  bool json = false;
  bool quiet = false;
};

int snapshot_create(const SnapshotOptions& options);
int snapshot_list(const SnapshotOptions& options);
int snapshot_restore(const SnapshotOptions& options);
int snapshot_delete(const SnapshotOptions& options);
int snapshot_warm(const SnapshotOptions& options);
int snapshot_verify(const SnapshotOptions& options);
int snapshot_export(const SnapshotOptions& options);
int snapshot_import(const SnapshotOptions& options);

}  // namespace doppel::cli
