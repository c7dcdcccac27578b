# Texts. Plain Nix, without nixpkgs' lib.
let
  letters = text: builtins.genList (at: builtins.substring at 1 text) (builtins.stringLength text);
  lower = letters "abcdefghijklmnopqrstuvwxyz";
  upper = letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
in
rec {
  # The parts of a text between separators, which are taken literally: one
  # character that means nothing in a regular expression, or one in brackets.
  splitOn = separator: text: builtins.filter builtins.isString (builtins.split separator text);

  # A spec's key as a Nix option is called: `read_only` → `readOnly`.
  camelCase =
    key:
    builtins.concatStringsSep "" (
      map (
        part: if builtins.isList part then builtins.replaceStrings lower upper (builtins.head part) else part
      ) (builtins.split "_([a-z0-9])" key)
    );

  # Lines as one, with single spaces.
  oneLine =
    text:
    builtins.concatStringsSep " " (
      builtins.filter (word: builtins.isString word && word != "") (builtins.split "[ \n]+" text)
    );
}
