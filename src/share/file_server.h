#pragma once

#include <linux/fuse.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "share/node_table.h"

namespace doppel::share {

/// Serves a directory of the host to a guest that speaks FUSE (linux/fuse.h; the protocol of virtio-fs), one request
/// after the other. For one thread at a time.
///
/// Every file is reached from its directory's descriptor, by one name that is neither ".." nor a link: nothing outside
/// of the shared directory can be named. Only regular files are opened. Files are made as the user that runs us, whose
/// own files look like root's to the guest, so that its root can give itself what it has.
class FileServer {
 public:
  struct Config {
    UniqueFd directory;  ///< O_PATH
    bool read_only = false;
  };
  explicit FileServer(Config config);

  /// The longest request and the longest reply of those that we negotiate.
  static constexpr std::size_t kMostData = std::size_t{1} << 20;
  static constexpr std::size_t kMostBytes = kMostData + 4096;

  /// Answers a request, whatever its bytes are. The reply is in `reply`, at most `room` bytes; empty: none is due.
  void handle(std::span<const std::byte> request, std::size_t room, std::vector<std::byte>& reply);
  /// The guest has gone, or begins anew.
  void reset() { restart({}); }

  /// The numbers that the next file and the next open one get.
  struct Numbers {
    std::uint64_t node = NodeTable::kRoot + 1;
    std::uint64_t handle = 1;
  };
  Numbers numbers() const { return {nodes_.next(), next_handle_}; }
  /// Nothing is known or open any more. To a guest that goes on with what it knew all of that is stale, for no number
  /// below these is given again.
  void restart(const Numbers& numbers);

 private:
  struct Handle {
    UniqueFd fd;
    std::uint64_t node = 0;
  };
  /// The parts of a request being answered. Functions return 0 or an errno; the reply's body is appended to `out`.
  struct Call {
    const fuse_in_header& header;
    std::span<const std::byte> body;
    std::size_t room;  ///< for the reply's body
    std::vector<std::byte>& out;

    /// The structure that the body begins with; shorter ones are completed with zeros.
    template <class T>
    T arguments() const;
    /// The n-th of the strings after the first `offset` bytes; empty if there is none that ends.
    std::string text(std::size_t offset, unsigned index = 0) const;
    template <class T>
    void reply(const T& value) const;
  };
  using Function = int (FileServer::*)(const Call&);
  struct Operation {
    std::uint32_t opcode;
    Function function;
    bool writes;  ///< refused when the share is read-only
  };
  static const Operation* find_operation(std::uint32_t opcode);

  int init(const Call& call);
  int destroy(const Call& call);
  int look_up(const Call& call);
  int get_attributes(const Call& call);
  int set_attributes(const Call& call);
  int read_link(const Call& call);
  int make_link(const Call& call);
  int make_symbolic_link(const Call& call);
  int make_node(const Call& call);
  int make_directory(const Call& call);
  int remove_file(const Call& call);
  int remove_directory(const Call& call);
  int rename_old(const Call& call);
  int rename_new(const Call& call);
  int open_file(const Call& call);
  int create_file(const Call& call);
  int read_file(const Call& call);
  int write_file(const Call& call);
  int flush_file(const Call& call);
  int sync_file(const Call& call);
  int allocate(const Call& call);
  int seek(const Call& call);
  int release(const Call& call);
  int open_directory(const Call& call);
  int read_directory(const Call& call);
  int read_directory_plus(const Call& call);
  int status_of_file_system(const Call& call);

  /// Where a node is now: the descriptor of its directory and its name there; a directory itself has the name "".
  struct Place {
    int directory = -1;
    const char* name = "";
  };
  int find_place(const Node& node, Place& place);
  /// Looks at a node, which must still be the file that the guest knows.
  int status_of(const Node& node, struct stat& status);
  /// Opens a regular file or a directory for I/O.
  int open_node(const Node& node, int flags, UniqueFd& fd);
  Node* directory_of(const Call& call);
  /// Looks `name` up in `parent`, and the entry into `entry`.
  int enter(Node& parent, const std::string& name, fuse_entry_out& entry);
  /// Answers a call with it.
  int reply_entry(const Call& call, Node& parent, const std::string& name);
  int rename(const Call& call, std::uint64_t new_parent, std::size_t names, std::uint32_t flags);
  int list(const Call& call, bool plus);
  std::uint64_t keep(UniqueFd fd, std::uint64_t node);
  Handle* handle_of(std::uint64_t number);
  int change_mode(const Node& node, const Handle* handle, mode_t mode);
  int change_size(const Node& node, const Handle* handle, std::uint64_t size);
  int change_times(const Node& node, const Handle* handle, const fuse_setattr_in& in);
  void fill(fuse_attr& attributes, const struct stat& status) const;

  NodeTable nodes_;
  const bool read_only_;
  const uid_t user_;
  const gid_t group_;
  std::map<std::uint64_t, Handle> handles_;
  std::uint64_t next_handle_ = 1;
};

}  // namespace doppel::share
