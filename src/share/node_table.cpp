#include "share/node_table.h"

namespace doppel::share {

NodeTable::NodeTable(UniqueFd root) {
  auto node = std::make_unique<Node>();
  node->id = kRoot;
  node->type = S_IFDIR;
  node->uses = 1;
  struct stat status {};
  if (::fstat(root.get(), &status) == 0) {
    node->device = status.st_dev;
    node->inode = status.st_ino;
  }
  node->directory = std::move(root);
  by_identity_[{node->device, node->inode}] = kRoot;
  nodes_[kRoot] = std::move(node);
}

void NodeTable::clear(std::uint64_t next) {
  std::unique_ptr<Node> root = std::move(nodes_[kRoot]);
  root->uses = 1;
  nodes_.clear();
  by_name_.clear();
  by_identity_.clear();
  by_identity_[{root->device, root->inode}] = kRoot;
  nodes_[kRoot] = std::move(root);
  next_ = next;
}

Node* NodeTable::find(std::uint64_t id) {
  const auto found = nodes_.find(id);
  return found == nodes_.end() ? nullptr : found->second.get();
}

Node* NodeTable::child(const Node& parent, const std::string& name) {
  const auto found = by_name_.find({parent.id, name});
  return found == by_name_.end() ? nullptr : find(found->second);
}

void NodeTable::place(Node& node, std::uint64_t parent, const std::string& name) {
  if (node.id == kRoot || (node.parent == parent && node.name == name)) return;
  const std::uint64_t before = node.parent;
  if (const auto old = by_name_.find({node.parent, node.name}); old != by_name_.end() && old->second == node.id) {
    by_name_.erase(old);
  }
  node.parent = parent;
  node.name = name;
  by_name_[{parent, name}] = node.id;
  ++find(parent)->uses;
  if (before != 0) release(before, 1);
}

Node* NodeTable::look_up(Node& parent, const std::string& name, const struct stat& status, UniqueFd directory) {
  const Identity identity{status.st_dev, status.st_ino};
  Node* node = nullptr;
  if (const auto known = by_identity_.find(identity); known != by_identity_.end()) {
    node = find(known->second);
    // The host has used the number again for something else.
    if (node->id != kRoot && node->type != (status.st_mode & S_IFMT)) {
      by_identity_.erase(known);
      node = nullptr;
    }
  }
  if (node == nullptr) {
    if (nodes_.size() >= kMost) return nullptr;
    auto made = std::make_unique<Node>();
    node = made.get();
    node->id = next_++;
    node->device = status.st_dev;
    node->inode = status.st_ino;
    node->type = status.st_mode & S_IFMT;
    node->directory = std::move(directory);
    by_identity_[identity] = node->id;
    nodes_[node->id] = std::move(made);
  }
  ++node->uses;
  place(*node, parent.id, name);
  return node;
}

void NodeTable::moved(const Node& from, const std::string& name, const Node& to, const std::string& new_name) {
  if (Node* const node = child(from, name)) place(*node, to.id, new_name);
}

void NodeTable::exchanged(const Node& a, const std::string& name_a, const Node& b, const std::string& name_b) {
  Node* const first = child(a, name_a);
  Node* const second = child(b, name_b);
  if (first == second) return;
  if (first != nullptr) place(*first, b.id, name_b);
  if (second != nullptr) place(*second, a.id, name_a);
}

void NodeTable::forget(std::uint64_t id, std::uint64_t lookups) {
  if (id != kRoot) release(id, lookups);
}

void NodeTable::release(std::uint64_t id, std::uint64_t uses) {
  // A chain of parents may go with the last child.
  for (std::uint64_t next = id; next != 0;) {
    Node* const node = find(next);
    if (node == nullptr || node->id == kRoot) return;
    node->uses -= node->uses < uses ? node->uses : uses;
    if (node->uses != 0) return;
    const std::uint64_t parent = node->parent;
    if (const auto named = by_name_.find({node->parent, node->name});
        named != by_name_.end() && named->second == node->id) {
      by_name_.erase(named);
    }
    if (const auto known = by_identity_.find({node->device, node->inode});
        known != by_identity_.end() && known->second == node->id) {
      by_identity_.erase(known);
    }
    nodes_.erase(next);
    next = parent;
    uses = 1;
  }
}

}  // namespace doppel::share
