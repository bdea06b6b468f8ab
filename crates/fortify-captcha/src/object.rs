//! The objects of [`Variant::ObjectRecognition`](crate::Variant::ObjectRecognition).
//!
//! Chosen by looking at them: people name each the same way, from its silhouette, with a code over
//! part of it.

/// Objects that could be taken for each other, or be called by each other's name. Two of one family
/// never meet in one picture or in one list of choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Animal,
    Bird,
    Bulb,
    Building,
    Clothes,
    Drink,
    Edged,
    Face,
    Foot,
    Food,
    Fruit,
    Furniture,
    Headgear,
    Letter,
    Locked,
    Loose,
    Plant,
    Ring,
    Round,
    Sky,
    Time,
    Tool,
    Vehicle,
}

macro_rules! objects {
    ($($object:ident $name:literal $family:ident;)*) => {
        /// A thing that people name the same way when they see its silhouette.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "each is what its name says")]
        pub enum Object {
            $($object,)*
        }

        impl Object {
            /// Every object, in the order of the alphabet.
            pub const ALL: [Self; 88] = [$(Self::$object,)*];

            /// The identifier under which the word is found (a Fluent message id).
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$object => concat!("object-", $name),)*
                }
            }

            /// The English word, which is also what a form sends.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$object => $name,)*
                }
            }

            /// The family of objects that it resembles.
            pub(crate) const fn family(self) -> Family {
                match self {
                    $(Self::$object => Family::$family,)*
                }
            }
        }
    };
}

objects! {
    Airplane "airplane" Bird;
    Anchor "anchor" Loose;
    Axe "axe" Tool;
    Backpack "backpack" Locked;
    Balloon "balloon" Bulb;
    Bed "bed" Furniture;
    Bell "bell" Bulb;
    Bicycle "bicycle" Ring;
    Bird "bird" Bird;
    Bone "bone" Tool;
    Book "book" Letter;
    Boot "boot" Foot;
    Bus "bus" Vehicle;
    Butterfly "butterfly" Bird;
    Cactus "cactus" Plant;
    Cake "cake" Food;
    Camera "camera" Locked;
    Car "car" Vehicle;
    Carrot "carrot" Fruit;
    Castle "castle" Building;
    Cat "cat" Animal;
    Chair "chair" Furniture;
    Cheese "cheese" Food;
    Cherries "cherries" Fruit;
    Church "church" Building;
    Clock "clock" Time;
    Cow "cow" Animal;
    Crown "crown" Headgear;
    Cup "cup" Drink;
    Dog "dog" Animal;
    Dress "dress" Clothes;
    Envelope "envelope" Letter;
    Eye "eye" Round;
    Fish "fish" Bird;
    Flag "flag" Letter;
    Flower "flower" Plant;
    Ghost "ghost" Face;
    Glasses "glasses" Ring;
    Guitar "guitar" Tool;
    Hammer "hammer" Tool;
    Hand "hand" Plant;
    Hat "hat" Headgear;
    Headphones "headphones" Ring;
    Heart "heart" Round;
    Hourglass "hourglass" Drink;
    House "house" Building;
    Key "key" Edged;
    Ladder "ladder" Loose;
    Lamp "lamp" Bulb;
    Leaf "leaf" Plant;
    Lightbulb "lightbulb" Bulb;
    Lightning "lightning" Sky;
    Lock "lock" Locked;
    Magnet "magnet" Edged;
    Moon "moon" Sky;
    Mountains "mountains" Building;
    Palm "palm" Plant;
    Pencil "pencil" Edged;
    Pig "pig" Animal;
    Pizza "pizza" Food;
    Rabbit "rabbit" Animal;
    Rainbow "rainbow" Sky;
    Robot "robot" Face;
    Rocket "rocket" Edged;
    Sailboat "sailboat" Building;
    Scissors "scissors" Loose;
    Shirt "shirt" Clothes;
    Shoe "shoe" Foot;
    Skull "skull" Face;
    Snowflake "snowflake" Sky;
    Sock "sock" Foot;
    Sofa "sofa" Furniture;
    Star "star" Sky;
    Sun "sun" Sky;
    Sword "sword" Tool;
    Tent "tent" Building;
    Tooth "tooth" Face;
    Tractor "tractor" Vehicle;
    Train "train" Vehicle;
    Tree "tree" Plant;
    Trophy "trophy" Drink;
    Trousers "trousers" Clothes;
    Truck "truck" Vehicle;
    Umbrella "umbrella" Bulb;
    Watch "watch" Time;
    Windmill "windmill" Building;
    Wineglass "wineglass" Drink;
    Wrench "wrench" Tool;
}
