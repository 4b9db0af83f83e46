#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/fd.h"

namespace doppel::share {

/// A file of the shared directory that the guest knows by number. Directories are held open; anything else is a name in
/// one, so that thousands of known files take no descriptors.
struct Node {
  std::uint64_t id = 0;
  std::uint64_t parent = 0;  ///< 0: the shared directory itself
  std::string name;
  dev_t device = 0;
  ino_t inode = 0;
  mode_t type = 0;         ///< S_IFMT bits
  UniqueFd directory;      ///< O_PATH; of directories
  std::uint64_t uses = 0;  ///< how often the guest has looked it up and not forgotten, and its children
};

/// The nodes that the guest knows (FUSE's "nodeid" and "nlookup"). For one thread.
class NodeTable {
 public:
  static constexpr std::uint64_t kRoot = 1;  ///< FUSE_ROOT_ID
  static constexpr std::size_t kMost = std::size_t{1} << 22;

  /// `root` is the shared directory.
  explicit NodeTable(UniqueFd root);

  /// Nothing but the root is known any more; the next file gets this number.
  void clear(std::uint64_t next = kRoot + 1);
  std::uint64_t next() const { return next_; }
  /// nullptr: no such node.
  Node* find(std::uint64_t id);
  /// The node for what `parent` has under `name`, now looked up once more. `status` is of that, `directory` the open
  /// directory if it is one. nullptr: too many.
  Node* look_up(Node& parent, const std::string& name, const struct stat& status, UniqueFd directory);
  /// The guest has moved what it knew: its node follows.
  void moved(const Node& from, const std::string& name, const Node& to, const std::string& new_name);
  void exchanged(const Node& a, const std::string& name_a, const Node& b, const std::string& name_b);
  void forget(std::uint64_t id, std::uint64_t lookups);

 private:
  using Identity = std::pair<dev_t, ino_t>;
  void release(std::uint64_t id, std::uint64_t uses);
  void place(Node& node, std::uint64_t parent, const std::string& name);
  Node* child(const Node& parent, const std::string& name);

  std::unordered_map<std::uint64_t, std::unique_ptr<Node>> nodes_;
  std::map<Identity, std::uint64_t> by_identity_;
  std::map<std::pair<std::uint64_t, std::string>, std::uint64_t> by_name_;
  std::uint64_t next_ = kRoot + 1;
};

}  // namespace doppel::share
