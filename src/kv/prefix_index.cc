#include "kv/prefix_index.h"

#define XXH_STATIC_LINKING_ONLY  // the streaming state by value; we do link statically
#include <xxhash.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "base/check.h"

namespace foveal::kv {
namespace {

struct Node {
  PageHash key;
  uint64_t root = 0;
  Node* parent = nullptr;  ///< null: the first page of a prompt
  std::vector<int32_t> tokens;
  PageId page = 0;
  int32_t num_children = 0;
  uint64_t last_use = 0;  ///< unique, and later than that of every child
};

struct KeyHash {
  size_t operator()(const PageHash& key) const { return static_cast<size_t>(key.low ^ key.high); }
};

PageHash root_hash(uint64_t root) { return {.low = root, .high = 0}; }

}  // namespace

PageHash hash_page(const PageHash& parent, std::span<const int32_t> tokens) {
  // The parent enters as data, not as a seed: a seed has 64 bits only.
  const uint64_t head[2] = {parent.low, parent.high};
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  XXH3_128bits_update(&state, head, sizeof(head));
  XXH3_128bits_update(&state, tokens.data(), tokens.size_bytes());
  const XXH128_hash_t hash = XXH3_128bits_digest(&state);
  return {.low = hash.low64, .high = hash.high64};
}

struct PrefixIndex::Impl {
  PageAllocator& allocator;
  int32_t page_size;
  PageHasher hasher;
  std::unordered_map<PageHash, std::unique_ptr<Node>, KeyHash> nodes = {};
  std::map<uint64_t, Node*> leaves = {};  ///< by last_use
  uint64_t clock = 0;

  std::span<const int32_t> page_tokens(std::span<const int32_t> tokens, size_t idx) const {
    const auto size = static_cast<size_t>(page_size);
    return tokens.subspan(idx * size, size);
  }

  bool is(const Node& node, uint64_t root, const Node* parent,
          std::span<const int32_t> tokens) const {
    return node.root == root && node.parent == parent && std::ranges::equal(node.tokens, tokens);
  }

  /// Deepest first, so that a page never looks older than one that extends it.
  void touch(Node* deepest) {
    for (Node* node = deepest; node != nullptr; node = node->parent) {
      leaves.erase(node->last_use);
      node->last_use = ++clock;
      if (node->num_children == 0) leaves.emplace(node->last_use, node);
    }
  }

  Node* add(const PageHash& key, uint64_t root, Node* parent, std::span<const int32_t> tokens,
            PageId page) {
    auto owned = std::make_unique<Node>(
        Node{.key = key, .root = root, .parent = parent, .tokens = {tokens.begin(), tokens.end()}});
    Node* node = owned.get();
    node->page = page;
    nodes.emplace(key, std::move(owned));
    allocator.retain(page);
    if (parent != nullptr && parent->num_children++ == 0) leaves.erase(parent->last_use);
    return node;
  }

  /// Takes a leaf out. True when its page became free.
  bool drop(Node* leaf) {
    leaves.erase(leaf->last_use);
    Node* parent = leaf->parent;
    if (parent != nullptr && --parent->num_children == 0) leaves.emplace(parent->last_use, parent);
    const PageId page = leaf->page;
    nodes.erase(leaf->key);
    return allocator.release(page);
  }

  bool extends_idle_page(const Node& node) const {
    for (const Node* up = node.parent; up != nullptr; up = up->parent) {
      if (allocator.refs(up->page) == 1) return true;
    }
    return false;
  }

  /// One pass over the leaves, oldest first; a parent that becomes a leaf comes up later in the
  /// same pass because it was used later.
  int32_t sweep(int32_t count, bool detach_held) {
    int32_t freed = 0;
    for (auto it = leaves.begin(); it != leaves.end() && freed < count;) {
      const auto [used, leaf] = *it;
      const bool held = allocator.refs(leaf->page) > 1;
      if (!held || (detach_held && extends_idle_page(*leaf))) freed += drop(leaf) ? 1 : 0;
      it = leaves.upper_bound(used);
    }
    return freed;
  }
};

PrefixIndex::PrefixIndex(PageAllocator& allocator, int32_t page_size, PageHasher hasher)
    : impl_(new Impl{.allocator = allocator, .page_size = page_size, .hasher = hasher}) {
  FOVEAL_CHECK(page_size > 0, ErrorKind::kInvalidArgument, "kv_cache",
               "got a page of {} tokens; need 1 or more", page_size);
}

PrefixIndex::~PrefixIndex() = default;

uint64_t PrefixIndex::root(std::string_view settings) {
  return XXH3_64bits(settings.data(), settings.size());
}

std::vector<PageId> PrefixIndex::match(uint64_t root, std::span<const int32_t> tokens) {
  std::vector<PageId> pages;
  PageHash key = root_hash(root);
  Node* last = nullptr;
  const size_t num_whole = tokens.size() / static_cast<size_t>(impl_->page_size);
  for (size_t idx = 0; idx < num_whole; ++idx) {
    const auto page_tokens = impl_->page_tokens(tokens, idx);
    key = impl_->hasher(key, page_tokens);
    const auto found = impl_->nodes.find(key);
    if (found == impl_->nodes.end() || !impl_->is(*found->second, root, last, page_tokens)) break;
    last = found->second.get();
    pages.push_back(last->page);
  }
  for (const PageId page : pages) impl_->allocator.retain(page);
  impl_->touch(last);
  return pages;
}

void PrefixIndex::insert(uint64_t root, std::span<const int32_t> tokens,
                         std::span<const PageId> pages) {
  FOVEAL_INVARIANT(pages.size() <= tokens.size() / static_cast<size_t>(impl_->page_size));
  PageHash key = root_hash(root);
  Node* last = nullptr;
  for (size_t idx = 0; idx < pages.size(); ++idx) {
    const auto page_tokens = impl_->page_tokens(tokens, idx);
    key = impl_->hasher(key, page_tokens);
    const auto found = impl_->nodes.find(key);
    if (found == impl_->nodes.end()) {
      last = impl_->add(key, root, last, page_tokens, pages[idx]);
    } else if (impl_->is(*found->second, root, last, page_tokens)) {
      last = found->second.get();
    } else {
      break;  // a collision: whoever came first keeps the key
    }
  }
  impl_->touch(last);
}

int32_t PrefixIndex::evict(int32_t count) {
  int32_t freed = impl_->sweep(count, /*detach_held=*/false);
  // A request that computed the same prompt's beginning by itself may hold a page that extends one
  // it does not hold. That must not keep the idle page from a request that needs it.
  if (freed < count) freed += impl_->sweep(count - freed, /*detach_held=*/true);
  return freed;
}

int32_t PrefixIndex::num_evictable() const {
  return static_cast<int32_t>(std::ranges::count_if(impl_->nodes, [this](const auto& entry) {
    return impl_->allocator.refs(entry.second->page) == 1;
  }));
}

int32_t PrefixIndex::num_pages() const { return static_cast<int32_t>(impl_->nodes.size()); }

int32_t PrefixIndex::page_size() const { return impl_->page_size; }

std::vector<PageId> PrefixIndex::pages() const {
  std::vector<PageId> pages;
  pages.reserve(impl_->nodes.size());
  for (const auto& [key, node] : impl_->nodes) pages.push_back(node->page);
  std::ranges::sort(pages);
  return pages;
}

void PrefixIndex::check_integrity() const {
  std::unordered_map<const Node*, int32_t> num_children;
  size_t num_leaves = 0;
  for (const auto& [key, node] : impl_->nodes) {
    FOVEAL_INVARIANT(key == node->key);
    FOVEAL_INVARIANT(impl_->allocator.refs(node->page) >= 1);
    FOVEAL_INVARIANT(node->last_use > 0 && node->last_use <= impl_->clock);
    const PageHash before = node->parent == nullptr ? root_hash(node->root) : node->parent->key;
    FOVEAL_INVARIANT(impl_->hasher(before, node->tokens) == key);
    if (node->num_children == 0) {
      ++num_leaves;
      const auto leaf = impl_->leaves.find(node->last_use);
      FOVEAL_INVARIANT(leaf != impl_->leaves.end() && leaf->second == node.get());
    }
    if (node->parent == nullptr) continue;
    const auto parent = impl_->nodes.find(node->parent->key);
    FOVEAL_INVARIANT(parent != impl_->nodes.end() && parent->second.get() == node->parent);
    FOVEAL_INVARIANT(node->parent->root == node->root);
    FOVEAL_INVARIANT(node->parent->last_use > node->last_use);
    ++num_children[node->parent];
  }
  FOVEAL_INVARIANT(num_leaves == impl_->leaves.size());
  for (const auto& [key, node] : impl_->nodes) {
    FOVEAL_INVARIANT(node->num_children == num_children[node.get()]);
  }
  const std::vector<PageId> all = pages();
  FOVEAL_INVARIANT(std::ranges::adjacent_find(all) == all.end());
}

}  // namespace foveal::kv
