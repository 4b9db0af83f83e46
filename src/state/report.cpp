// inspect(), diff() and schema(): three ways to print a state tree.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "state/snapshot_io.h"
#include "state/tree.h"

namespace doppel::state {
namespace {

nlohmann::json to_json(const Node& node) {
  if (node.kind == format::Kind::Record) {
    auto json = node.is_array() ? nlohmann::json::array() : nlohmann::json::object();
    for (const Node& child : node.children) {
      if (node.is_array()) {
        json.push_back(to_json(child));
      } else {
        json[child.name] = to_json(child);
      }
    }
    return json;
  }
  if (!node.is_scalar()) return value_text(node);
  if (node.scalar_type() == ScalarType::Bool) return node.bits != 0;
  if (format::is_signed(node.scalar_type())) return static_cast<std::int64_t>(node.bits);
  return node.bits;
}

std::string join(const std::string& path, const std::string& name) {
  return path.empty() || name.starts_with('[') ? path + name : path + "." + name;
}

using Values = std::map<std::string, std::string>;

void flatten(const Node& node, const std::string& path, Values& values) {
  for (const Node& child : node.children) {
    const std::string child_path = join(path, child.name);
    if (child.kind == format::Kind::Record) {
      flatten(child, child_path, values);
    } else {
      values[child_path] = value_text(child);
    }
  }
}

const char* type_name(const Node& node) {
  switch (node.kind) {
    case format::Kind::Bytes:
      return "bytes";
    case format::Kind::Blob:
      return "blob";
    case format::Kind::Text:
      return "text";
    case format::Kind::Record:
      return "record";
    case format::Kind::LastScalar:
      break;
  }
  switch (node.scalar_type()) {
    case ScalarType::Bool:
      return "bool";
    case ScalarType::U8:
      return "u8";
    case ScalarType::U16:
      return "u16";
    case ScalarType::U32:
      return "u32";
    case ScalarType::U64:
      return "u64";
    case ScalarType::I8:
      return "i8";
    case ScalarType::I16:
      return "i16";
    case ScalarType::I32:
      return "i32";
    case ScalarType::I64:
      break;
  }
  return "i64";
}

/// "u32", "bytes[16]", "u64[4]", "record[6]": an array has the type of its first element.
std::string full_type(const Node& node) {
  if (node.is_array()) return fmt::format("{}[{}]", full_type(node.children.front()), node.children.size());
  if (node.kind == format::Kind::Bytes) return fmt::format("bytes[{}]", node.bytes.size());
  return type_name(node);
}

void list_fields(const Node& record, const std::string& path, std::string& lines) {
  for (const Node& field : record.children) {
    lines += fmt::format("{}{} {} {}\n", path.empty() ? "" : path + ".", field.number, field.name, full_type(field));
    const Node* inner = &field;
    while (inner->is_array()) inner = &inner->children.front();
    list_fields(*inner, join(path, field.name), lines);
  }
}

}  // namespace

nlohmann::json inspect(const DescribeFunction& describe) {
  return to_json(make_tree(describe));
}

std::vector<std::string> diff(const DescribeFunction& left, const DescribeFunction& right) {
  Values left_values;
  Values right_values;
  flatten(make_tree(left), "", left_values);
  flatten(make_tree(right), "", right_values);
  std::vector<std::string> lines;
  for (const auto& [path, value] : left_values) {
    const auto other = right_values.find(path);
    if (other == right_values.end()) {
      lines.push_back(fmt::format("{}: {} != (absent)", path, value));
    } else if (other->second != value) {
      lines.push_back(fmt::format("{}: {} != {}", path, value, other->second));
    }
  }
  for (const auto& [path, value] : right_values) {
    if (!left_values.contains(path)) lines.push_back(fmt::format("{}: (absent) != {}", path, value));
  }
  return lines;
}

std::string schema(const DescribeFunction& describe) {
  std::string lines;
  list_fields(make_tree(describe), "", lines);
  return lines;
}

}  // namespace doppel::state
